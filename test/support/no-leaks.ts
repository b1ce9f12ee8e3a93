import { afterEach, expect } from 'vitest'
import { endNamespaces } from './namespace.js'

// Every test ends its namespaces; what they leave behind fails the test.
afterEach(async () => {
  const left = await endNamespaces()
  expect(left, 'left behind').toEqual([])
})

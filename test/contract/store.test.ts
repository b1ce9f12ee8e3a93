import { describe, test } from 'vitest'
import { MemoryStore } from '../../src/store/memory/memory-store.js'
import { storeContract } from '../../testing/contract.js'
import { newNamespace } from '../support/namespace.js'
import { redisStore } from '../support/stores.js'

describe('the store in memory', () => {
  for (const { name, run } of storeContract(async (clock) => ({ store: new MemoryStore(() => clock.nowMs) }))) test(name, run)
})

describe('the store in Redis', () => {
  const open = storeContract(async (clock) => {
    const namespace = newNamespace()
    return { store: redisStore(namespace, clock), namespace: namespace.name }
  })
  for (const { name, run } of open) test(name, run)
})

import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect } from 'vitest'
import { endNamespaces } from './namespace.js'

/** What keeps a process alive when it should end. Timers are left out: the test runner has its own among them. */
const HANDLES = ['TCPSocketWrap', 'TCPServerWrap', 'PipeWrap', 'ProcessWrap']
const GRACE_MS = 3000

function openHandles(): Map<string, number> {
  const counts = new Map<string, number>()
  for (const kind of process.getActiveResourcesInfo()) if (HANDLES.includes(kind)) counts.set(kind, (counts.get(kind) ?? 0) + 1)
  return counts
}

function more(now: ReadonlyMap<string, number>, before: ReadonlyMap<string, number>): string[] {
  return [...now].filter(([kind, count]) => count > (before.get(kind) ?? 0)).map(([kind, count]) => `${count - (before.get(kind) ?? 0)} × ${kind}`)
}

// First in, last out: whatever a test closes when it has finished is closed by then.
beforeEach(({ onTestFinished }) => {
  const before = openHandles()
  onTestFinished(async () => {
    const deadline = performance.now() + GRACE_MS
    let left = more(openHandles(), before)
    while (left.length > 0 && performance.now() < deadline) {
      await sleep(20)
      left = more(openHandles(), before)
    }
    expect(left, 'handles left open').toEqual([])
  })
})

// Every test ends its namespaces; what they leave behind fails the test.
afterEach(async () => {
  const left = await endNamespaces()
  expect(left, 'left behind').toEqual([])
})

import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect } from 'vitest'
import { endNamespaces } from './namespace.js'

/** Resources that keep a process alive when it should end. Timers are left out: the test runner has its own among them. */
const HANDLES = ['TCPSocketWrap', 'TCPServerWrap', 'PipeWrap', 'ProcessWrap']
const GRACE_MS = 3000

function openHandles(): Map<string, number> {
  const counts = new Map<string, number>()
  for (const kind of process.getActiveResourcesInfo()) if (HANDLES.includes(kind)) counts.set(kind, (counts.get(kind) ?? 0) + 1)
  return counts
}

function added(now: ReadonlyMap<string, number>, before: ReadonlyMap<string, number>): string[] {
  return [...now].filter(([kind, count]) => count > (before.get(kind) ?? 0)).map(([kind, count]) => `${count - (before.get(kind) ?? 0)} × ${kind}`)
}

// The first hook to be registered runs last: by then everything that a test closes in its own hooks is closed.
beforeEach(({ onTestFinished }) => {
  const before = openHandles()
  onTestFinished(async () => {
    const deadline = performance.now() + GRACE_MS
    let left = added(openHandles(), before)
    while (left.length > 0 && performance.now() < deadline) {
      await sleep(20)
      left = added(openHandles(), before)
    }
    expect(left, 'handles left open').toEqual([])
  })
})

// Ends the namespaces of the test, which fails if they leave anything in Redis.
afterEach(async () => {
  const left = await endNamespaces()
  expect(left, 'left behind').toEqual([])
})

import { describe, expect, test } from 'vitest'
import type { Grant, RuleSpec, Tollgate } from '../../src/index.js'
import { codeOf, newPlace, PLACES, usedBy } from '../support/place.js'
import { until } from '../support/until.js'

const DAILY: RuleSpec = { name: 'daily', scope: 'agent', limits: [{ requests: 1, per: 'day', algorithm: 'fixed_window' }] }
const TOKENS: RuleSpec = { name: 'tokens', scope: 'agent', limits: [{ tokens: 100, per: 'day', algorithm: 'fixed_window' }] }
const SLOT: RuleSpec = { name: 'slot', scope: 'user', limits: [{ concurrency: 1 }] }
const A = { agent: 'a', user: 'u' }

/** Notes the names of admitted calls, in order. */
function admissionOrder(): { entered: string[]; note: (name: string) => (grant: Grant) => Grant } {
  const entered: string[] = []
  return {
    entered,
    note: (name) => (grant) => {
      entered.push(name)
      return grant
    },
  }
}

/** Whether no further call is admitted before all commands on their way have been answered. */
async function stillWaits(tollgate: Tollgate, entered: readonly string[]): Promise<boolean> {
  const before = entered.length
  for (let i = 0; i < 3; i++) await tollgate.gate.peek(A)
  return entered.length === before
}

describe.each(PLACES)('in %s', (place) => {
  test('acquiring calls are admitted as room comes, in the order of arrival', async () => {
    const tollgate = await newPlace(place).open({
      // Calls that arrive at once are each asked once at once: a busy machine must not take 50 ms between two of them.
      rules: [{ name: 'even', scope: 'agent', limits: [{ requests: 20, per: 'second', algorithm: 'leaky_bucket' }] }],
    })
    const { entered, note } = admissionOrder()
    const names = Array.from({ length: 12 }, (_, index) => `call ${index}`)
    const grants = await Promise.all(names.map((name) => tollgate.gate.acquire(A).then(note(name))))
    expect(entered).toEqual(names)
    expect(grants.every(({ allowed }) => allowed)).toBe(true)
  })

  test('a newcomer that would fit does not overtake one that waits for more', async () => {
    const tollgate = await newPlace(place).open({ rules: [TOKENS] })
    const { entered, note } = admissionOrder()
    const first = await tollgate.gate.acquire({ ...A, cost: { tokens: 80 } })
    const large = tollgate.gate.acquire({ ...A, cost: { tokens: 50 } }).then(note('large'))
    expect(await stillWaits(tollgate, entered)).toBe(true)
    const small = tollgate.gate.acquire({ ...A, cost: { tokens: 10 } }).then(note('small'))
    expect(await stillWaits(tollgate, entered)).toBe(true)
    await first.settle({ tokens: 20 })
    await Promise.all([large, small])
    expect(entered).toEqual(['large', 'small'])
    expect(await usedBy(tollgate, A)).toBe(80)
  })

  test('calls that wait at different scope values do not wait for each other', async () => {
    const tollgate = await newPlace(place).open({ rules: [DAILY] })
    await tollgate.gate.acquire({ agent: 'busy' })
    const waiting = codeOf(tollgate.gate.acquire({ agent: 'busy' }))
    expect((await tollgate.gate.acquire({ agent: 'idle' })).allowed).toBe(true)
    await tollgate.close()
    expect(await waiting).toBe('CLOSED')
  })

  test('a signal that has aborted before charges nothing', async () => {
    const tollgate = await newPlace(place).open({ rules: [DAILY] })
    await expect(tollgate.gate.acquire(A, { signal: AbortSignal.abort(new Error('not any more')) })).rejects.toThrow('not any more')
    expect(await usedBy(tollgate, A)).toBe(0)
  })

  test('a signal that aborts while the store decides charges nothing, and the next call is admitted', async () => {
    const tollgate = await newPlace(place).open({ rules: [DAILY] })
    const controller = new AbortController()
    const aborted = tollgate.gate.acquire(A, { signal: controller.signal })
    controller.abort(new Error('changed my mind'))
    const next = tollgate.gate.acquire(A)
    await expect(aborted).rejects.toThrow('changed my mind')
    expect((await next).allowed).toBe(true)
    expect(await usedBy(tollgate, A)).toBe(1)
  })

  test('a signal that aborts while it waits charges nothing, and the next one goes on', async () => {
    const tollgate = await newPlace(place).open({ rules: [SLOT, TOKENS] })
    const { entered, note } = admissionOrder()
    const held = await tollgate.gate.acquire({ ...A, cost: { tokens: 1 } })
    const controller = new AbortController()
    const aborted = tollgate.gate.acquire({ ...A, cost: { tokens: 10 } }, { signal: controller.signal })
    const next = tollgate.gate.acquire({ ...A, cost: { tokens: 5 } }).then(note('next'))
    expect(await stillWaits(tollgate, entered)).toBe(true)
    controller.abort(new Error('waited enough'))
    await expect(aborted).rejects.toThrow('waited enough')
    expect(await stillWaits(tollgate, entered)).toBe(true)
    await held.release()
    await (await next).settle()
    expect(await usedBy(tollgate, A, 'concurrency')).toBe(0)
    expect(await usedBy(tollgate, A, 'tokens/day')).toBe(5)
    expect((await tollgate.stats.ledger()).open).toBe(0)
  })

  test('a call that can never pass is refused at once', async () => {
    const tollgate = await newPlace(place).open({ rules: [TOKENS, { name: 'closed', scope: 'team', limits: [{ requests: 0, per: 'day' }] }] })
    expect(await codeOf(tollgate.gate.acquire({ ...A, cost: { tokens: 101 } }))).toBe('COST_TOO_BIG')
    expect(await codeOf(tollgate.gate.acquire({ ...A, team: 't', cost: { tokens: 1 } }))).toBe('LIMIT_CLOSED')
    expect(await codeOf(tollgate.gate.acquire({ agent: '' }))).toBe('CALL_INVALID')
    expect(await usedBy(tollgate, A)).toBe(0)
  })

  test('closing turns away the calls that wait and any later call, and releases a charge that was on its way', async () => {
    const shared = newPlace(place)
    const tollgate = await shared.open({ rules: [TOKENS] })
    const other = await shared.open({ rules: [TOKENS] })
    await tollgate.gate.acquire({ ...A, cost: { tokens: 100 } })
    const waiting = codeOf(tollgate.gate.acquire({ ...A, cost: { tokens: 1 } }))
    // Its charge is on its way when the Tollgate closes.
    const admitting = codeOf(tollgate.gate.acquire({ agent: 'other', cost: { tokens: 7 } }))
    const closed = tollgate.close()
    expect(await waiting).toBe('CLOSED')
    expect(await admitting).toBe('CLOSED')
    expect(await codeOf(tollgate.gate.acquire(A))).toBe('CLOSED')
    await closed
    expect(await codeOf(tollgate.gate.admit(A))).toBe('CLOSED')
    expect(await usedBy(other, { agent: 'other' })).toBe(0)
    expect(await usedBy(other, A)).toBe(100)
  })

  test.each([
    ['its grant is released', (_tollgate: Tollgate, grant: Grant) => grant.release()],
    ['its grant is settled at less', (_tollgate: Tollgate, grant: Grant) => grant.settle({ tokens: 10 })],
    ['it is released by its id', (tollgate: Tollgate) => tollgate.gate.release({ ...A, id: 'held' })],
    ['it is settled by its id', (tollgate: Tollgate) => tollgate.gate.settle({ ...A, id: 'held' }, { tokens: 10 })],
  ])('room that comes back in this process goes to the next call at once: %s', async (_how, free) => {
    // The window lasts for the rest of the day: only the room that comes back can admit the next call.
    const tollgate = await newPlace(place).open({ rules: [TOKENS] })
    const { entered, note } = admissionOrder()
    const held = await tollgate.gate.acquire({ ...A, id: 'held', cost: { tokens: 100 } })
    const next = tollgate.gate.acquire({ ...A, cost: { tokens: 50 } }).then(note('next'))
    expect(await stillWaits(tollgate, entered)).toBe(true)
    expect(await free(tollgate, held)).toBe(true)
    expect((await next).allowed).toBe(true)
  })

  test('a call is admitted by room that comes back while the store decides on it', async () => {
    const tollgate = await newPlace(place).open({ rules: [DAILY] })
    for (let turns = 0; turns < 20; turns++) {
      const held = await tollgate.gate.acquire(A)
      const next = tollgate.gate.acquire(A)
      // After some number of turns the call is refused, and the room is back before it stands in line.
      for (let turn = 0; turn < turns; turn++) await undefined
      if (place === 'Redis') await new Promise(setImmediate)
      await held.release()
      await (await next).release()
    }
    expect(await usedBy(tollgate, A)).toBe(0)
  })

  test('a slot that another Tollgate gives back goes to the next call', async () => {
    const shared = newPlace(place)
    const tollgate = await shared.open({ rules: [SLOT] })
    const other = await shared.open({ rules: [SLOT] })
    const held = await other.gate.acquire(A)
    const { entered, note } = admissionOrder()
    const next = tollgate.gate.acquire(A).then(note('next'))
    expect(await stillWaits(tollgate, entered)).toBe(true)
    await held.settle()
    await (await next).release()
  })

  test('a call that waits for two limits is admitted when both have room', async () => {
    const tollgate = await newPlace(place).open({ rules: [SLOT, DAILY] })
    const { entered, note } = admissionOrder()
    const slot = await tollgate.gate.acquire({ agent: 'b', user: 'u' })
    const daily = await tollgate.gate.acquire({ agent: 'a', user: 'v' })
    const both = tollgate.gate.acquire(A).then(note('both'))
    expect(await stillWaits(tollgate, entered)).toBe(true)
    await slot.release()
    expect(await stillWaits(tollgate, entered)).toBe(true)
    await daily.release()
    await both
    expect(await usedBy(tollgate, A, 'requests/day')).toBe(1)
    expect(await usedBy(tollgate, A, 'concurrency')).toBe(1)
  })

  test('rules that change while a call waits admit it', async () => {
    const tollgate = await newPlace(place).open({ rules: [DAILY] })
    const { entered, note } = admissionOrder()
    await tollgate.gate.acquire(A)
    const next = tollgate.gate.acquire(A).then(note('next'))
    const last = tollgate.gate.acquire(A).then(note('last'))
    expect(await stillWaits(tollgate, entered)).toBe(true)
    await tollgate.rules.apply([{ ...DAILY, limits: [{ requests: 2, per: 'day', algorithm: 'fixed_window' }] }])
    await next
    expect(await stillWaits(tollgate, entered)).toBe(true)
    await tollgate.rules.apply([])
    await last
    expect(entered).toEqual(['next', 'last'])
  })

  test('acquire waits whatever the strategy', async () => {
    const tollgate = await newPlace(place).open({ rules: [{ ...DAILY, strategy: 'hard' }] })
    const held = await tollgate.gate.acquire({ ...A, strategy: 'hard' })
    const next = tollgate.gate.acquire({ ...A, strategy: 'hard' })
    await held.release()
    expect((await next).allowed).toBe(true)
  })

  test('tryAcquire never waits: it answers a grant, or null and charges nothing', async () => {
    const tollgate = await newPlace(place).open({ rules: [DAILY, TOKENS] })
    const grant = await tollgate.gate.tryAcquire({ ...A, cost: { tokens: 10 } })
    expect(grant?.allowed).toBe(true)
    expect(await tollgate.gate.tryAcquire({ ...A, cost: { tokens: 10 } })).toBeNull()
    expect(await usedBy(tollgate, A, 'tokens/day')).toBe(10)
    expect(await tollgate.gate.tryAcquire({ ...A, cost: { tokens: 1000 } })).toBeNull()
    await grant?.release()
    expect(await tollgate.gate.tryAcquire({ ...A, cost: { tokens: 10 } })).not.toBeNull()
  })
})

test('a slot whose holder is gone goes to the next call when its lease ends', async () => {
  const tollgate = await newPlace('memory').open({ rules: [{ name: 'slot', scope: 'user', limits: [{ concurrency: 1, lease: '1s' }] }] })
  await tollgate.gate.acquire(A)
  let entered = false
  void tollgate.gate.acquire(A).then(() => {
    entered = true
  })
  await until('the lease ended', () => entered)
})

test('a call does not wait behind calls of a queue that no process works: it has their room two seconds later', async () => {
  const tollgate = await newPlace('Redis').open({ rules: [{ name: 'account', scope: 'agent', limits: [{ requests: 10, per: 'second', burst: 5 }] }] })
  const tickets = await tollgate.enqueueMany(Array.from({ length: 60 }, () => ({ agent: 'a' })))
  const fromMs = performance.now()
  await tollgate.gate.acquire(A)
  expect(performance.now() - fromMs).toBeLessThan(3000)
  await Promise.all(tickets.map(({ id }) => tollgate.cancel(id)))
})

import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { CallRequest } from '../../src/admission/request.js'
import type { Call } from '../../src/index.js'
import type { GivenClock } from '../../src/model/time.js'
import type { RuleSpec } from '../../src/policy/rule.js'
import { readLineFronts } from '../../src/queue/line-scan.js'
import { heldBy, readRecord, restoredRequest } from '../../src/queue/stored-call.js'
import type { ScriptClient } from '../../src/store/redis/script-client.js'
import { type Namespace, newNamespace } from '../support/namespace.js'
import { givenScriptClient, requestOf } from '../support/script-client.js'

const ACCOUNT: RuleSpec = { name: 'account', scope: 'agent', limits: [{ requests: 5, per: 'second', burst: 4 }] }
const SLOTS: RuleSpec = { name: 'slots', scope: 'org', limits: [{ concurrency: 2 }] }
const TOKENS: RuleSpec = {
  name: 'tokens',
  scope: 'user',
  limits: [
    { tokens: 100, per: 'minute' },
    { tokens: 0.5, per: 'second', burst: 90 },
  ],
}
/** The rules as processes know them: one was removed, one added, one changed its limits, one does not cover some calls any more. */
const VERSIONS: readonly (readonly RuleSpec[])[] = [
  [ACCOUNT, SLOTS],
  [ACCOUNT, TOKENS],
  [{ ...ACCOUNT, limits: [{ requests: 9, per: 'minute' }] }, { ...SLOTS, match: { orgs: ['x'] } }, TOKENS],
  [SLOTS, { ...TOKENS, enabled: false }],
]
const CALLS: readonly Call[] = ['x', 'y'].flatMap((org) => ['u', 'v'].map((user): Call => ({ agent: 'a', org, user, cost: { tokens: 30.1 } })))
const IDS = ['c0', 'c1', 'c2', 'c3', 'c4']

interface Step {
  readonly what: 'enqueue' | 'start' | 'release' | 'reconcile' | 'dispatch' | 'time'
  readonly id: string
  /** Which rules the process knows that does it, and which call it takes the id for: `callOf` may answer another. */
  readonly version: number
  readonly call: number
  readonly ms: number
}

const step = fc.record({
  what: fc.constantFrom<Step['what']>('enqueue', 'enqueue', 'start', 'start', 'release', 'reconcile', 'dispatch', 'time'),
  id: fc.constantFrom(...IDS),
  version: fc.integer({ min: 0, max: VERSIONS.length - 1 }),
  call: fc.integer({ min: 0, max: CALLS.length - 1 }),
  ms: fc.constantFrom(20, 100, 400, 1500),
})

/** A pass of a call, as its record is kept: until when it claims, and how much of which limit at which meter. */
type Claimed = [endsMs: number, ...at: [key: string, amounts: number[], awaitedMs: number][]]

class Fleet {
  private constructor(
    private readonly namespace: Namespace,
    private readonly clients: readonly ScriptClient[],
    private readonly clocks: readonly GivenClock[],
  ) {}

  static open(): Fleet {
    const namespace = newNamespace()
    const processes = VERSIONS.map((rules) => givenScriptClient(namespace, rules))
    return new Fleet(
      namespace,
      processes.map(({ scriptClient }) => scriptClient),
      processes.map(({ clock }) => clock),
    )
  }

  async do({ what, id, version, call, ms }: Step): Promise<void> {
    const client = this.clients[version] as ScriptClient
    const request = requestOf(client, id, CALLS[call] as Call)
    switch (what) {
      case 'time':
        for (const clock of this.clocks) clock.advance(ms)
        return
      case 'enqueue':
        await client.enqueue([{ ...request, ledger: undefined, token: '' }], 'calls')
        return
      case 'start':
        return this.start(client, request)
      case 'release': {
        const record = await client.recordOf(request.id)
        await client.release(restoredRequest(client, request.id, record), readRecord(record)?.line ?? '')
        return
      }
      case 'reconcile': {
        const restored = restoredRequest(client, request.id, await client.recordOf(request.id))
        await client.reconcilePasses([{ request: restored, seen: call % 2 === 0 ? 'queued' : 'missing' }])
        return
      }
      case 'dispatch': {
        const lines = await this.namespace.redis.zrange(this.namespace.keys.lines, '0', '-1')
        if (lines.length > 0) await client.dispatch(await readLineFronts(this.namespace.redis, client, lines, () => 8))
        return
      }
      default:
        what satisfies never
    }
  }

  /** What is claimed at each meter, as every version of the rules sees it, and as the records of the calls say. */
  async claims(): Promise<{ seen: Map<string, number>; known: Map<string, number> }> {
    const seen = new Map<string, number>()
    for (const client of this.clients) {
      for (const call of CALLS) {
        const { meters } = requestOf(client, 'peek', call)
        const [decision] = await client.peek([requestOf(client, 'peek', call)])
        for (const { rule, scopeValue, limit, claimed } of decision?.usage ?? []) {
          const meter = meters.find((one) => one.rule.name === rule && one.value === scopeValue)
          const id = meter?.rule.limits.find(({ name }) => name === limit)?.id
          seen.set(`${meter?.keys[0]} ${id}`, claimed)
        }
      }
    }
    const known = new Map([...seen.keys()].map((key) => [key, 0]))
    for (const id of IDS) {
      const claimed = claimedOf(await this.namespace.redis.get(this.namespace.keys.call(`calls/${id}`)))
      if (claimed === null || claimed[0] <= (this.clocks[0] as GivenClock).nowMs) continue
      const [, ...parts] = claimed
      for (const [key, amounts] of parts) {
        for (let at = 0; at < amounts.length; at += 2) {
          const name = `${key} ${amounts[at]}`
          if (known.has(name)) known.set(name, (known.get(name) as number) + (amounts[at + 1] as number))
        }
      }
    }
    return { seen, known }
  }

  /** As `StartBatcher` does it. */
  private async start(client: ScriptClient, request: CallRequest): Promise<void> {
    const [decision] = await client.start([request], [], false)
    if (decision?.outcome === 'again') await client.start([{ ...request, held: heldBy(await client.recordOf(request.id)) }], [], true)
  }
}

function claimedOf(record: string | null): Claimed | null {
  const claims = record?.startsWith('P') === true ? record.split('\n')[2] : undefined
  return claims === undefined ? null : (JSON.parse(claims) as Claimed)
}

test('what meters keep for woken calls is what their records say, whatever rules the processes know that wake, start, cancel and look after them (invariant 13)', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      const fleet = Fleet.open()
      for (const [index, one] of steps.entries()) {
        await fleet.do(one)
        const { seen, known } = await fleet.claims()
        for (const [meter, claimed] of seen) expect(claimed, `${meter} after step ${index}`).toBeCloseTo(known.get(meter) as number, 9)
      }
      // Nothing is given back: every claim has an end of its own.
      await fleet.do({ what: 'time', id: 'c0', version: 0, call: 0, ms: 120_000 })
      for (const [meter, claimed] of (await fleet.claims()).seen) expect(claimed, meter).toBe(0)
      for (const id of IDS) await fleet.do({ what: 'release', id, version: 0, call: 0, ms: 0 })
    }),
    { numRuns: Number(process.env['TIMES'] ?? 1) * 40 },
  )
})

import { describe, expect, test } from 'vitest'
import { MemoryLog } from '../../src/administration/audit.js'
import { GivenClock, type LimitSpec } from '../../src/index.js'
import { DEFAULTS } from '../../src/model/defaults.js'
import { scripts } from '../../src/store/redis/scripts.js'
import { newNamespace } from '../support/namespace.js'
import { newPlace, PLACES } from '../support/place.js'
import { T0 } from '../support/script-client.js'

describe.each(PLACES)('in %s', (place) => {
  test('resets of a limiter by one actor are one entry an hour, which counts them', async () => {
    const clock = new GivenClock(T0)
    const tollgate = await newPlace(place, clock).open({ actor: 'ann', rules: [{ name: 'r', scope: 'global', limits: [{ requests: 1, per: 'day' }] }] })
    const [one, other] = [tollgate.limiter({ requests: 5, per: 'minute' }), tollgate.limiter({ requests: 6, per: 'minute' })]
    const entries = async () =>
      (await tollgate.overrides.audit({ what: 'limiter.reset' })).map(({ subject, before, after, by }) => [subject, before, after, by])
    for (let n = 0; n < 50; n++) {
      await one.check(`user ${n}`)
      await one.reset(`user ${n}`)
      clock.advance(1000)
    }
    await other.reset('k')
    expect(await entries()).toEqual([
      ['requests:minute:6/k', { 'requests:minute:6/requests/minute': 0 }, { resets: 1 }, 'ann'],
      ['requests:minute:5/user 49', { 'requests:minute:5/requests/minute': 1 }, { resets: 50 }, 'ann'],
    ])
    clock.advance(3_600_000)
    await one.reset('k')
    expect((await entries()).map(([, , after]) => after)).toEqual([{ resets: 1 }, { resets: 1 }, { resets: 50 }])
  })

  test('limiters of different limits share no usage by their default names, those of the same limits do', async () => {
    const tollgate = await newPlace(place).open({})
    const used = async (limits: LimitSpec | LimitSpec[]) => (await tollgate.limiter(limits).peek('k')).usage.map((one) => Math.round(one.used))
    await tollgate.limiter({ requests: 10, per: 'hour' }).consume('k', 4)
    await tollgate
      .limiter([
        { requests: 9, per: 'hour' },
        { requests: 50, per: 'day' },
      ])
      .consume('k', 3)
    expect(await used({ requests: 10, per: 'hour' })).toEqual([4])
    expect(await used({ per: 'hour', requests: 10 })).toEqual([4])
    for (const limit of [
      { requests: 11, per: 'hour' },
      { requests: 10, per: 'hour', burst: 20 },
      { requests: 10, per: 'hour', algorithm: 'fixed_window' as const },
    ])
      expect(await used(limit)).toEqual([0])
    expect(
      await used([
        { requests: 9, per: 'hour' },
        { requests: 50, per: 'day' },
      ]),
    ).toEqual([3, 3])
    expect(
      await used([
        { requests: 9, per: 'hour' },
        { requests: 51, per: 'day' },
      ]),
    ).toEqual([0, 0])
  })
})

test('the audit keeps a bounded number of entries, the youngest', async () => {
  const most = DEFAULTS.auditAtMost
  const note = { by: 'ann', what: 'rule.added', subject: 'r', before: null, after: null } as const
  const log = new MemoryLog()
  log.append(
    Array.from({ length: most }, () => note),
    1000,
    1e9,
  )
  log.append([{ ...note, subject: 'last' }], 1001, 1e9)
  const query = { sinceMs: 0, untilMs: 1e9, limit: 1e9, fits: () => true }
  const kept = await log.read(query)
  expect([kept.length, kept[0]?.subject]).toEqual([most, 'last'])

  const { redis, keys } = newNamespace()
  const add = (subject: string) => ['ann', 'rule.added', subject, 'null', 'null']
  await redis.eval("for n = 1, ARGV[1] do redis.call('XADD', KEYS[1], n .. '-0', 'by', 'x') end", 1, keys.audit, most + 5000)
  await scripts.writePolicy.run(redis, [keys.rules, keys.notices, keys.audit], [String(most + 6000), '', '', '{}', 1e9, 1, 'version', 'v', ...add('last')])
  const length = await redis.xlen(keys.audit)
  expect(length).toBeGreaterThanOrEqual(most)
  expect(length).toBeLessThan(most + 1000)
})

import { expect, test } from 'vitest'
import { type LimitSpec, limitName, periodMs } from '../../src/limits/limit.js'
import { compileRules } from '../../src/policy/compile.js'

test.each([
  ['second', 1000],
  ['minute', 60_000],
  ['hour', 3_600_000],
  ['day', 86_400_000],
  ['week', 604_800_000],
  ['month', 2_592_000_000],
  ['5ms', 5],
  ['10s', 10_000],
  ['0.5s', 500],
  ['15m', 900_000],
  ['2h', 7_200_000],
  ['30d', 2_592_000_000],
  ['2w', 1_209_600_000],
])('%s has %d ms', (per, ms) => {
  expect(periodMs(per)).toBe(ms)
})

test.each([
  '',
  's',
  '10',
  '10 s',
  '-10s',
  '+1s',
  '1e3s',
  '1.s',
  '.5s',
  '10S',
  '10sec',
  'Minute',
  'minutes',
  '1h30m',
  'constructor',
  '__proto__',
  'toString',
  '10s\n',
  '١s',
])('%j is no period', (per) => {
  expect(periodMs(per)).toBeNull()
})

test('a limit is called by its unit and period, unless it has a name', () => {
  expect(limitName({ requests: 1, per: 'minute' })).toBe('requests/minute')
  expect(limitName({ tokens: 0, per: '10s' })).toBe('tokens/10s')
  expect(limitName({ concurrency: 5 })).toBe('concurrency')
  expect(limitName({ name: 'short', tokens: 5, per: 'day' })).toBe('short')
})

/** The ids under which packed meters keep the usage of limits. */
function idsOf(limits: LimitSpec[]): number[] {
  const [rule] = compileRules([{ name: 'r', scope: 'user', limits }]).rules
  return (rule?.limits ?? []).map(({ id }) => id)
}

test('the id of a limit depends on its name only, so its usage outlives changes of the rest', () => {
  const [id] = idsOf([{ requests: 10, per: 'minute' }])
  expect(idsOf([{ requests: 99, per: 'minute', burst: 7 }])).toEqual([id])
  expect(
    idsOf([
      { tokens: 5, per: 'day' },
      { requests: 10, per: 'minute' },
    ])[1],
  ).toBe(id)
  expect(idsOf([{ name: 'x', requests: 10, per: 'minute' }])).not.toEqual([id])
})

test('the ids of a rule differ, and fit into 32 bits', () => {
  const units = ['requests', 'tokens'] as const
  const pers = ['second', 'minute', 'hour', 'day', 'week', 'month', '10s', '15m', '6h', '30d']
  const ids = idsOf(units.flatMap((unit) => pers.map((per): LimitSpec => ({ [unit]: 1, per }))))
  expect(new Set(ids).size).toBe(20)
  expect(ids.every((id) => Number.isInteger(id) && id >= 0 && id <= 0xffffffff)).toBe(true)
})

test('two names with the same id are refused, naming both', () => {
  // A known collision of FNV-1a with 32 bits.
  const limits: LimitSpec[] = [
    { name: 'costarring', requests: 1, per: 'minute' },
    { name: 'liquid', requests: 1, per: 'hour' },
  ]
  expect(() => idsOf(limits)).toThrow('rule r: the limits costarring and liquid share an id; rename one of them')
})

test('equal rules have the same version, any change has another', () => {
  const rules = [{ name: 'r', scope: 'user', limits: [{ requests: 1, per: 'minute' }] }]
  const { version } = compileRules(rules)
  expect(compileRules(structuredClone(rules)).version).toBe(version)
  expect(compileRules([{ ...rules[0], name: 'r', scope: 'user', limits: [{ requests: 2, per: 'minute' }] }]).version).not.toBe(version)
  expect(compileRules([]).version).not.toBe(version)
})

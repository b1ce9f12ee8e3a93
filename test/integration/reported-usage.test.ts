import { pino } from 'pino'
import { describe, expect, test } from 'vitest'
import type { RuleSpec, TollgateOptions } from '../../src/index.js'
import { newNamespace } from '../support/namespace.js'
import { newPlace, PLACES, usedBy } from '../support/place.js'
import { until } from '../support/until.js'

const RULES: RuleSpec[] = [{ name: 't', scope: 'agent', limits: [{ tokens: 1000, per: 'day', algorithm: 'fixed_window' }] }]
const A = { agent: 'a', cost: { tokens: 10 } }

/** A logger, and the warnings that it got. */
function listening(): { logger: NonNullable<TollgateOptions['logger']>; warnings: { msg: string; agent?: string }[] } {
  const warnings: { msg: string }[] = []
  return { logger: pino({ level: 'warn' }, { write: (line: string) => void warnings.push(JSON.parse(line)) }), warnings }
}

describe.each(PLACES)('in %s', (place) => {
  test('a usage is believed up to 100 times the estimate or 10 times the limit, then it is capped, logged once and counted', async () => {
    const { logger, warnings } = listening()
    const tollgate = await newPlace(place).open({ rules: RULES, logger })
    const settled = async (estimate: number, tokens: number) => {
      const call = { agent: `a${estimate}`, cost: { tokens: estimate } }
      await (await tollgate.gate.admit(call)).settle({ tokens })
      return usedBy(tollgate, call)
    }
    expect(await settled(10, 10_000)).toBe(10_000)
    expect(await settled(500, 50_000)).toBe(50_000)
    expect(tollgate.stats.usage()).toEqual({ unreadable: 0, capped: 0 })
    expect(await settled(11, 1e12)).toBe(10_000)
    expect(await settled(501, 1e12)).toBe(50_100)
    const again = await tollgate.gate.admit({ agent: 'b', cost: { tokens: 1 } })
    await again.settlePart({ tokens: 1e12 })
    await again.settlePart({ tokens: 1e12 })
    expect(tollgate.stats.usage().capped).toBe(4)
    expect(warnings.filter(({ msg }) => msg.includes('not believed')).map(({ agent }) => agent)).toEqual(['a11', 'a501', 'b'])
  })

  test('the bounds are options', async () => {
    const tollgate = await newPlace(place).open({ rules: RULES, believedUsage: { timesEstimate: 2, timesLimit: 1 } })
    await (await tollgate.gate.admit(A)).settle({ tokens: 5000 })
    expect(await usedBy(tollgate, A)).toBe(1000)
  })

  test('a usage that cannot be read leaves the estimate, is logged once per agent and counted', async () => {
    const { logger, warnings } = listening()
    const tollgate = await newPlace(place).open({ rules: RULES, logger })
    for (let n = 0; n < 3; n++) await (await tollgate.gate.admit(A)).settle({ seconds: 5 } as object)
    await (await tollgate.gate.admit({ ...A, agent: 'b' })).settle({ tokens: Number.NaN })
    await (await tollgate.gate.admit({ ...A, agent: 'c' })).settle()
    expect(await usedBy(tollgate, A)).toBe(30)
    expect(tollgate.stats.usage()).toEqual({ unreadable: 4, capped: 0 })
    expect(warnings.filter(({ msg }) => msg.includes('cannot be read')).map(({ agent }) => agent)).toEqual(['a', 'b'])
  })

  test('a grant merges the parts of its stream, as its provider reports them', async () => {
    const tollgate = await newPlace(place).open({ rules: RULES })
    const grant = await tollgate.gate.admit(A)
    const part = (usage: object) => grant.settlePart(usage)
    await part({ input_tokens: 20, cache_read_input_tokens: 80, output_tokens: 1 })
    await part({ output_tokens: 50 })
    await part({ output_tokens: 30 })
    expect(await usedBy(tollgate, A)).toBe(150)
    await grant.settle({ output_tokens: 60 } as object)
    expect(await usedBy(tollgate, A)).toBe(160)
  })

  test('parts that are settled under an override leave no debt on the limit that it lifts', async () => {
    const tollgate = await newPlace(place).open({ rules: RULES })
    const id = await tollgate.overrides.grant({ for: { agent: 'a' }, allow: 'unlimited', reason: 'testing', by: 'me', forMs: 60_000 })
    const grant = await tollgate.gate.admit(A)
    await grant.settlePart({ tokens: 5000 })
    await grant.settlePart({ tokens: 9000 })
    await tollgate.overrides.revoke(id, { by: 'me' })
    await until('the override has ended', async () => (await tollgate.gate.peek(A)).usage.length > 0)
    expect(await usedBy(tollgate, A)).toBe(0)
    expect((await tollgate.gate.peek(A)).allowed).toBe(true)
  })
})

test("a worker reads the usage of its handler's answer, wherever its provider puts it, and says which it cannot read", async () => {
  const { logger, warnings } = listening()
  const tollgate = await newNamespace().open({ rules: RULES, logger })
  tollgate.worker(async ({ payload }, context) => {
    if (payload === 'stream') {
      await context.settlePart({ input_tokens: 100, output_tokens: 1 } as object)
      await context.settlePart({ output_tokens: 40 } as object)
      throw new Error('broken off')
    }
    return payload
  })
  const settled = async (agent: string, payload: unknown) => {
    await (await tollgate.enqueue({ ...A, agent, payload })).result().catch(() => {})
    await until('it is settled', async () => (await tollgate.stats.ledger()).open === 0)
    return usedBy(tollgate, { ...A, agent })
  }
  expect(await settled('gemini', { usageMetadata: { promptTokenCount: 90, candidatesTokenCount: 6, thoughtsTokenCount: 4, totalTokenCount: 100 } })).toBe(100)
  expect(await settled('stream', 'stream')).toBe(140)
  expect(await settled('odd', { usage: { seconds: 3 } })).toBe(10)
  expect(await settled('odd', { usage: { seconds: 3 } })).toBe(20)
  expect(await settled('liar', { usage: { prompt_tokens: 1e12, completion_tokens: 1 } })).toBe(10_000)
  expect(tollgate.stats.usage()).toEqual({ unreadable: 2, capped: 1 })
  expect(warnings.map(({ agent }) => agent)).toEqual(['odd', 'liar'])
})

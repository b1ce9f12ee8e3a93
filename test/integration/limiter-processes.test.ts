import { expect, test } from 'vitest'
import { newNamespace } from '../support/namespace.js'
import { Script } from '../support/script.js'

const IN_MEMORY = 'no Redis is configured: limits are kept in the memory of this process alone'

/** The code of a script that checks a limiter `times` times at once, and prints how many checks passed. */
function checksOf(limiter: string, namespace: string, times: number): string {
  return `
const tollgate = await Tollgate.open({ namespace: '${namespace}' })
const limiter = ${limiter}
let passed = 0
await Promise.all(Array.from({ length: ${times} }, async () => { if ((await limiter.check('k')).allowed) passed++ }))
console.log(passed)
await tollgate.close()
`
}

test('a limiter needs only its environment: without a Redis it works in memory, and the log warns once', async () => {
  const script = new Script(
    `
const tollgate = await Tollgate.open()
const limiter = tollgate.limiter()
const answers = []
for (let i = 0; i < 4; i++) answers.push(await tollgate.limiter().check('k'))
const refused = await tollgate.enqueue({ agent: 'a' }).catch((error) => error.code)
let worker
try { tollgate.worker(async () => {}) } catch (error) { worker = error.code }
console.log(JSON.stringify({ answers, refused, worker }))
await tollgate.close()
`,
    { TOKEN_BUCKET_SIZE: '3', TOKEN_REFILL_RATE: '0.001' },
  )
  const { answers, refused, worker } = (await script.result()) as { answers: { allowed: boolean; usage: object[] }[]; refused: string; worker: string }
  expect(answers.map(({ allowed }) => allowed)).toEqual([true, true, true, false])
  expect(answers[0]?.usage).toMatchObject([{ unit: 'requests', capacity: 3, scopeValue: 'k' }])
  expect([refused, worker]).toEqual(['REDIS_REQUIRED', 'REDIS_REQUIRED'])
  const lines = script.errors.trim().split('\n')
  expect(lines).toHaveLength(1)
  expect((JSON.parse(lines[0] as string) as { msg: string }).msg).toContain(IN_MEMORY)
})

test('with REDIS_URL in the environment processes share their limiter, and nothing is logged', async () => {
  const namespace = newNamespace()
  const environment = { REDIS_URL: namespace.url, TOKEN_BUCKET_SIZE: '40', TOKEN_REFILL_RATE: '0.001' }
  const scripts = Array.from({ length: 3 }, () => new Script(checksOf('tollgate.limiter()', namespace.name, 30), environment))
  const passed = (await Promise.all(scripts.map((script) => script.result()))) as number[]
  expect(passed.reduce((sum, one) => sum + one, 0)).toBe(40)
  expect(scripts.map(({ errors }) => errors)).toEqual(['', '', ''])
})

test('a sliding log is exact for processes that charge it at the same time', async () => {
  const namespace = newNamespace()
  const limiter = "tollgate.limiter({ requests: 50, per: 'day', algorithm: 'sliding_log' })"
  const scripts = Array.from({ length: 3 }, () => new Script(checksOf(limiter, namespace.name, 25), { REDIS_URL: namespace.url }))
  const passed = (await Promise.all(scripts.map((script) => script.result()))) as number[]
  expect(passed.reduce((sum, one) => sum + one, 0)).toBe(50)
  const [log] = (await namespace.allKeys()).filter((key) => key.includes('/h/'))
  expect(await namespace.redis.zcard(log as string), 'each charge by itself').toBe(50)
})

test.each([
  [{}, 'TOKEN_BUCKET_SIZE must be a number above 0, at most 1e12, where a limiter is made without limits of its own (got undefined)'],
  [{ TOKEN_BUCKET_SIZE: '0', TOKEN_REFILL_RATE: '1' }, 'TOKEN_BUCKET_SIZE must be a number above 0, .* \\(got "0"\\)'],
  [{ TOKEN_BUCKET_SIZE: '0.5', TOKEN_REFILL_RATE: '1' }, 'TOKEN_BUCKET_SIZE must be at least 1, or no request could ever pass \\(got 0.5\\)'],
  [{ TOKEN_BUCKET_SIZE: 'many', TOKEN_REFILL_RATE: '1' }, 'TOKEN_BUCKET_SIZE must be a number .* \\(got "many"\\)'],
  [{ TOKEN_BUCKET_SIZE: '5' }, 'TOKEN_REFILL_RATE must be a number above 0, .* \\(got undefined\\)'],
  [{ TOKEN_BUCKET_SIZE: '5', TOKEN_REFILL_RATE: '-1' }, 'TOKEN_REFILL_RATE must be a number above 0, .* \\(got "-1"\\)'],
])('an environment without a valid limit is refused, naming the variable: %j', async (environment, message) => {
  const script = new Script(
    `
const tollgate = await Tollgate.open()
try { tollgate.limiter() } catch (error) { console.log(JSON.stringify([error.code, error.message])) }
`,
    environment,
  )
  const [code, text] = (await script.result()) as [string, string]
  expect(code).toBe('CONFIG_INVALID')
  expect(text).toMatch(new RegExp(message.replace(/\((got \w+)\)$/, '\\($1\\)')))
})

import { Queue } from 'bullmq'
import { expect, onTestFinished, test } from 'vitest'
import { ownRedis, WAYS } from '../support/outage.js'
import { until } from '../support/until.js'

/** Ways in which Redis answers, and refuses writes. */
const REFUSING = WAYS.filter(({ how }) => how !== 'killed' && how !== 'paused')

test.each(REFUSING)(
  'a worker that closes tells the end of its last call when Redis takes it again: it is $how',
  { timeout: 60_000 },
  async ({ begin, end }) => {
    const { server, namespace } = await ownRedis()
    const tollgate = await namespace.open({ rules: [{ name: 'r', scope: 'agent', limits: [{ requests: 1000, per: 'hour' }] }] })
    let runs = 0
    let finish = () => {}
    const finished = new Promise<void>((resolve) => {
      finish = resolve
    })
    const worker = tollgate.worker(async () => {
      runs++
      await finished
      return 'done'
    })
    const refused: Error[] = []
    worker.bull.on('error', (error) => refused.push(error))
    const { id } = await tollgate.enqueue({ agent: 'llm' })
    await until('the call runs', () => runs === 1)
    const closing = worker.close()
    await begin(server, namespace)
    finish()
    await until('Redis has refused the end', () => refused.length > 0)
    await end(server, namespace)
    await closing
    const queue = new Queue('calls', { connection: namespace.redis, prefix: tollgate.prefix })
    onTestFinished(() => queue.close())
    expect(await (await queue.getJob(id))?.getState()).toBe('completed')
    expect(runs).toBe(1)
  },
)

import { Agent, get } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { type RuleSpec, Tollgate } from '../src/index.js'
import { type Figure, notMeasured } from './lib/measure.js'
import { inNamespaces } from './lib/namespace.js'
import { Nginx, nginxProgram } from './lib/nginx.js'
import { Helper } from './lib/processes.js'
import { arrivals, earliestEnd } from './lib/trace.js'
import { type Progress, warmUp } from './lib/warm-up.js'

const SPEED = 60
const PER_SECOND = 120
const BURST = 10
const CONCURRENCY = 100
const FLOOD = { requests: 2000, atOnce: 50 }
const WHAT = `an upstream that is not ours: nginx limit_req at the same rate, trace at ${SPEED}×`
const BAR = 0
const NAMESPACE = 'bench-upstream'
const RULES: RuleSpec[] = [
  { name: 'account', scope: 'agent', match: { agents: ['nginx'] }, limits: [{ requests: PER_SECOND, per: 'second', burst: BURST, algorithm: 'token_bucket' }] },
]
// worker-process requests the path /<org>: 'run' is that of the calls that are measured.
const CALL = { agent: 'nginx', org: 'run' }

function fetchPath(port: number, path: string, connections: Agent): Promise<void> {
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, path, agent: connections }, (response) => {
      response.resume()
      response.on('end', resolve)
    }).on('error', reject)
  })
}

/** The control: without Tollgate in between, nginx has to refuse. @returns how many requests it refused */
async function flood(nginx: Nginx): Promise<number> {
  const connections = new Agent({ keepAlive: true, maxSockets: FLOOD.atOnce })
  await Promise.all(Array.from({ length: FLOOD.requests }, () => fetchPath(nginx.port, '/flood', connections)))
  connections.destroy()
  // Until the flood's share of the rate is free again.
  await sleep(((BURST + 1) / PER_SECOND) * 1000 + 500)
  return (await nginx.log('/flood')).filter(({ status }) => status === 429).length
}

/** Enqueues each call at its time. @returns the begin, which the times count from */
async function replay(tollgate: Tollgate, atMs: readonly number[]): Promise<number> {
  const begin = performance.now()
  const failures: unknown[] = []
  const sent: Promise<unknown>[] = []
  for (const at of atMs) {
    const early = begin + at - performance.now()
    if (early > 0) await sleep(early)
    sent.push(tollgate.enqueue(CALL).catch((error: unknown) => failures.push(error)))
  }
  await Promise.all(sent)
  if (failures.length > 0) throw new Error(`${failures.length} calls could not be enqueued`, { cause: failures[0] })
  return performance.timeOrigin + begin
}

async function measure(redis: string, nginx: Nginx, version: string, trace: string | undefined): Promise<Figure> {
  const { atMs, source } = await arrivals(trace, SPEED)
  const control = await flood(nginx)
  const tollgate = await Tollgate.open({ redis, namespace: NAMESPACE, rules: RULES })
  const worker = await Helper.start('worker-process', { redis, namespace: NAMESPACE, concurrency: CONCURRENCY, agent: nginx.port })
  const warm = await warmUp(tollgate, worker)
  const begin = await replay(tollgate, atMs)
  const idealMs = earliestEnd(atMs, PER_SECOND, BURST)
  const deadline = begin + 2 * idealMs
  let finished = 0
  while (finished < atMs.length && performance.timeOrigin + performance.now() < deadline) {
    await sleep(100)
    finished = (await worker.request<Progress>('progress')).finished - warm.finished
  }
  const starts = await worker.request<{ at: number }[]>('starts')
  await Promise.all([worker.stop(), tollgate.close()])

  // Counted in nginx's log: includes refused calls that Tollgate sent again.
  const answered = await nginx.log('/run')
  const refused = answered.filter(({ status }) => status === 429).length
  const served = answered.filter(({ status }) => status === 200).length
  const excesses = (await nginx.excesses('/run')).map((excess) => excess.toFixed(3))
  const tookMs = starts.reduce((last, { at }) => Math.max(last, at), 0) - begin
  const number = (value: number) => value.toLocaleString('en')
  return {
    what: WHAT,
    value: refused,
    bar: `≤ ${BAR}`,
    ok: refused <= BAR && finished === atMs.length && served === atMs.length && control > 0,
    detail: [
      `${version}, ${PER_SECOND} r/s and burst ${BURST} on both sides, where nginx's burst lets one more through at once than a bucket of ${BURST}`,
      `${number(finished)} of ${number(atMs.length)} calls of ${source} finished, ${number(served)} served`,
      `utilisation ${(idealMs / tookMs).toFixed(4)}: ${number(Math.round(tookMs))} ms to the last start, ideal ${number(Math.round(idealMs))}`,
      `control: ${number(control)} of ${number(FLOOD.requests)} refused when flooded directly`,
      ...(excesses.length === 0 ? [] : [`refused at an excess of ${excesses.slice(0, 10).join(', ')}${excesses.length > 10 ? ', …' : ''}`]),
    ].join('; '),
  }
}

/** Whether an independent upstream, with its own clock and its own algorithm, ever has to refuse a call. */
export async function upstream(redis: string, trace: string | undefined): Promise<Figure[]> {
  const program = nginxProgram()
  if (program === undefined)
    return [notMeasured(WHAT, `≤ ${BAR}`, 'there is no nginx on this machine; install it (Debian, Ubuntu: apt-get install nginx-light)')]
  const nginx = await Nginx.start(program.path, PER_SECOND, BURST)
  try {
    return [await inNamespaces(redis, [NAMESPACE], () => measure(redis, nginx, program.version, trace))]
  } finally {
    await nginx.stop()
  }
}

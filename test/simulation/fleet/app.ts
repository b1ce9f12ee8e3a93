import type { Call, Ticket } from '../../../src/index.js'
import type { Random } from '../world/random.js'
import { EPOCH_MS } from '../world/server.js'
import { drawCall, type FleetCall, noteAsked, scriptedCalls } from './calls.js'
import { type Fleet, type Member, sleep } from './fleet.js'
import type { AppSpec } from './spec.js'

type Answer = 'run' | 'wait' | 'degrade' | 'refused' | 'unknown' | 'joined'

/** An app: it enqueues calls in rounds, and waits for what becomes of each. */
export function startApp(fleet: Fleet, spec: AppSpec): void {
  const process = fleet.world.process(spec.name)
  const state: Fleet['apps'][number] = { process, finished: false, member: undefined }
  fleet.apps.push(state)
  process.start(async () => {
    await fleet.ready()
    const member = await fleet.open(process, { queue: spec.queue, attempts: spec.attempts })
    state.member = member
    const random = fleet.stream(`app ${spec.name}`)
    for (const { atMs, calls } of spec.script ?? []) {
      await sleep(EPOCH_MS + atMs - fleet.nowMs)
      await enqueue(
        fleet,
        member,
        calls.flatMap((given) => scriptedCalls(fleet, random, process, spec.queue, given)),
      )
    }
    for (let round = 0; round < spec.rounds; round++) {
      await enqueueRound(fleet, member, spec, random)
      await sleep(random.exponential(spec.meanPauseMs))
    }
    state.finished = true
  })
}

async function enqueueRound(fleet: Fleet, member: Member, spec: AppSpec, random: Random): Promise<void> {
  const { process } = member
  const size = random.chance(0.3) ? spec.largestRound : 1 + random.int(Math.min(spec.largestRound, 15))
  const calls = Array.from({ length: size }, () => drawCall(fleet, random, process, 'queue', spec.queue))
  await enqueue(fleet, member, calls)
  if (fleet.has('explain')) {
    const one = random.pick(calls)
    if (one.id !== '' && !one.ended) await explain(member, one.id)
  }
}

async function enqueue(fleet: Fleet, member: Member, calls: readonly FleetCall[]): Promise<void> {
  for (const one of calls) noteAsked(fleet, one)
  const tickets =
    calls.length === 1 ? [await enqueueOne(member, (calls[0] as FleetCall).call)] : await member.tollgate.enqueueMany(calls.map(({ call }) => call))
  for (const [index, ticket] of tickets.entries()) {
    const one = calls[index] as FleetCall
    answered(fleet, member, one, ticket)
  }
}

/** A refusal is thrown by `enqueue`, and told by the ticket of `enqueueMany`. */
async function enqueueOne(member: Member, call: Call): Promise<Pick<Ticket, 'id' | 'error' | 'decision' | 'result'>> {
  try {
    return await member.tollgate.enqueue(call)
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error)) throw error
    return { id: '', error: error as NonNullable<Ticket['error']>, decision: undefined, result: () => Promise.reject(error) }
  }
}

function answered(fleet: Fleet, member: Member, one: FleetCall, ticket: Pick<Ticket, 'id' | 'error' | 'decision' | 'result'>): void {
  const { error, decision } = ticket
  const outcome = answerOf(ticket)
  const etaMs = decision?.outcome === 'wait' ? decision.etaMs : decision?.outcome === 'run' ? (decision.delayMs ?? 0) : undefined
  one.answered = true
  if (ticket.id !== '') one.id = ticket.id
  fleet.note({
    fact: 'answered',
    atMs: fleet.nowMs,
    call: one.name,
    outcome,
    ...(etaMs === undefined ? {} : { etaMs }),
    ...(decision?.outcome === 'wait' ? { etaMaxMs: decision.etaMaxMs } : {}),
    ...(error === undefined ? {} : { code: error.code }),
  })
  fleet.world.note(member.process.name, `${one.name} is answered ${outcome}${error === undefined ? '' : ` (${error.code})`}, id ${ticket.id}`)
  if (outcome === 'refused' || outcome === 'unknown') {
    one.ended = true
    return
  }
  ticket.result().then(
    () => ended(fleet, one, 'done'),
    (failure: unknown) => ended(fleet, one, howFailed(failure), failure),
  )
}

function answerOf({ error, decision }: Pick<Ticket, 'error' | 'decision'>): Answer {
  if (error !== undefined) return (error as { maybeEnqueued?: boolean }).maybeEnqueued === true ? 'unknown' : 'refused'
  // A call of the same id or deduplication key was there before: this one got that one's ticket.
  if (decision === undefined) return 'joined'
  return decision.outcome === 'run' || decision.outcome === 'degrade' ? decision.outcome : 'wait'
}

function codeOf(failure: unknown): string | undefined {
  return failure instanceof Error && 'code' in failure ? String(failure.code) : undefined
}

export function howFailed(failure: unknown): 'failed' | 'expired' | 'cancelled' {
  const code = codeOf(failure)
  return code === 'CALL_EXPIRED' ? 'expired' : code === 'CALL_CANCELLED' ? 'cancelled' : 'failed'
}

export function ended(fleet: Fleet, one: FleetCall, how: 'done' | 'failed' | 'expired' | 'cancelled', failure?: unknown): void {
  one.ended = true
  const code = codeOf(failure)
  fleet.note({ fact: 'result', atMs: fleet.nowMs, call: one.name, how, ...(code === undefined ? {} : { code }) })
  fleet.world.note(one.by.name, `${one.name} has a result: ${how}${failure === undefined ? '' : ` (${(failure as Error).message})`}`)
}

async function explain(member: Member, id: string): Promise<void> {
  try {
    await member.tollgate.explain(id)
  } catch (error) {
    // Redis may be away, the job removed.
    if (!['CALL_UNKNOWN', 'STORE_UNAVAILABLE'].includes(codeOf(error) ?? '')) throw error
  }
}

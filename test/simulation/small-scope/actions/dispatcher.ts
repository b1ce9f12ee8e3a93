import type { CallRequest } from '../../../../src/admission/request.js'
import type { LineFront, Model, ReadCall, SeenPass, Turn } from '../model.js'
import { checkWoken } from '../order.js'
import type { Action, Setting } from '../setting.js'
import { scriptCall } from './script-call.js'

/** How long another process takes to find that the dispatcher is gone: the lease. */
const TAKE_OVER_MS = 600
/** How long a dispatcher tries to promote a woken call whose job is not delayed yet. */
const PROMOTE_AGAIN_MS = 20 + 50 + 150 + 500
const CALLS_PER_LINE = 48

/** What the dispatcher does: turn by turn, as `src/queue/dispatcher.ts`. Each action ends with the reads that the next one goes by. */
export function dispatcherActions(setting: Setting, model: Model): Action[] {
  const { dispatcher } = model
  const actions = [...turnActions(setting, model), ...retryActions(model)]
  if (model.budget.deaths > 0 && setting.scope.mortal.includes('dispatcher') && dispatcher.phase !== 'idle')
    actions.push({ name: 'the dispatcher dies', kind: 'fault', run: die })
  return actions
}

function turnActions(setting: Setting, model: Model): Action[] {
  const { dispatcher } = model
  switch (dispatcher.phase) {
    case 'idle':
      return (dispatcher.dueMs ?? 0) > model.atMs ? [] : [{ name: 'look', kind: 'step', run: (next) => look(setting, next) }]
    case 'expire':
      return scriptCall(setting, model, {
        name: 'expire',
        send: (next) => {
          const waiting = dispatcher.late.map((read) => ({ request: restored(setting, next, read), line: setting.program.readRecord(read[1])?.line ?? '' }))
          return setting.client(next.rules.dispatcher).expire(waiting)
        },
        apply: (next, expired) => goOn(setting, next, { ...dispatcher.rest, promote: expired }),
      })
    case 'reconcile':
      return scriptCall(setting, model, {
        name: 'reconcile',
        send: (next) => {
          const passes = dispatcher.passes.map(([id, record, seen]) => ({ request: restored(setting, next, [id, record]), seen }))
          return setting.client(next.rules.dispatcher).reconcilePasses(passes)
        },
        apply: (next) => goOn(setting, next, dispatcher.rest),
      })
    case 'dispatch':
      return scriptCall(setting, model, {
        name: 'dispatch',
        send: (next) => {
          const fronts = dispatcher.fronts.map(([key, calls]) => ({ key, calls: calls.map((read) => restored(setting, next, read)) }))
          return setting.client(next.rules.dispatcher).dispatch(fronts, undefined, true)
        },
        apply: (next, { woken }) => {
          checkWoken(setting, dispatcher.fronts, woken)
          return goOn(setting, next, { promote: woken, passes: [], lines: [] })
        },
      })
    case 'promote':
      return [
        {
          name: `promote c${dispatcher.call}`,
          kind: 'step',
          run: (next) => {
            if (!promote(next, dispatcher.call)) next.retries.push({ call: dispatcher.call, untilMs: next.atMs + PROMOTE_AGAIN_MS })
            return goOn(setting, next, dispatcher.rest)
          },
        },
      ]
    default:
      return dispatcher satisfies never
  }
}

function retryActions({ retries, jobs }: Model): Action[] {
  return retries
    .filter(({ call }) => jobs[call]?.state === 'delayed')
    .map(({ call }) => ({
      name: `promote c${call} again`,
      kind: 'step',
      run: (model) => {
        model.retries = model.retries.filter((retry) => retry.call !== call)
        promote(model, call)
      },
    }))
}

/** Another process takes over, and knows nothing of what this one was about to do: it looks at all lines. */
function die(model: Model): void {
  model.budget.deaths--
  model.dispatcher = { phase: 'idle', dueMs: model.atMs + TAKE_OVER_MS }
  model.retries = []
  model.scansAll = true
}

async function look(setting: Setting, model: Model): Promise<void> {
  if (model.scansAll) setting.scan.scanAll()
  model.scansAll = false
  const { lines, passes, late } = await setting.scan.due()
  if (late.length === 0) return goOn(setting, model, { promote: [], passes, lines })
  model.dispatcher = { phase: 'expire', late: await readCalls(setting, late), rest: { promote: [], passes, lines } }
}

/** The next step of a turn, with what it goes by. */
async function goOn(setting: Setting, model: Model, { promote: [first, ...others], passes, lines }: Turn): Promise<void> {
  if (first !== undefined) {
    model.dispatcher = { phase: 'promote', call: setting.callOf(first), rest: { promote: others, passes, lines } }
  } else if (passes.length > 0) {
    model.dispatcher = { phase: 'reconcile', passes: await readPasses(setting, model, passes), rest: { promote: [], passes: [], lines } }
  } else if (lines.length > 0) {
    model.dispatcher = { phase: 'dispatch', fronts: await readFronts(setting, lines) }
  } else {
    model.dispatcher = { phase: 'idle' }
  }
}

/** Reads where the jobs of passes are, and promotes those that are still delayed. */
async function readPasses(setting: Setting, model: Model, ids: readonly string[]): Promise<SeenPass[]> {
  const read = await readCalls(setting, ids)
  return read.map(([id, record]) => [id, record, promote(model, setting.callOf(id)) ? 'queued' : seenState(model, setting.callOf(id))])
}

/** As `Queues.jobStates` sees the job of a call. */
function seenState({ jobs, atMs }: Model, call: number): SeenPass[2] {
  const job = jobs[call]
  if (job?.state === 'wait') return 'queued'
  if (job?.state !== 'active') return 'missing'
  return (job.lockEndsMs ?? Number.POSITIVE_INFINITY) > atMs ? 'held' : 'queued'
}

function promote(model: Model, call: number): boolean {
  if (model.jobs[call]?.state !== 'delayed') return false
  model.jobs[call] = { state: 'wait' }
  return true
}

async function readCalls({ states, keys }: Setting, ids: readonly string[]): Promise<ReadCall[]> {
  const records = await states.client.mget(ids.map((id) => keys.call(id)))
  return ids.map((id, index) => [id, records[index] ?? null])
}

async function readFronts(setting: Setting, lines: readonly string[]): Promise<LineFront[]> {
  const fronts = await Promise.all(lines.map((line) => setting.states.client.zrange(line, 0, CALLS_PER_LINE - 1)))
  const ids = fronts.flat()
  const read = ids.length === 0 ? [] : await readCalls(setting, ids)
  let at = 0
  return lines.map((line, index) => [line, (fronts[index] ?? []).map(() => read[at++] as ReadCall)] as const)
}

function restored(setting: Setting, model: Model, [id, record]: ReadCall): CallRequest {
  return setting.program.restoredRequest(setting.client(model.rules.dispatcher), id, record)
}

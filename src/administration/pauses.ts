import { z } from 'zod'
import { subjectOf } from '../policy/override.js'
import { PAUSABLE, type Pause } from '../policy/pause.js'
import { hasRule } from '../policy/policy.js'
import { actorOf, checkRequest, freeText, subjectName } from '../validation/requests.js'
import { checkRoom, unknownRule } from './change.js'
import type { PolicyClient } from './policy-client.js'

export const pausedSubject = z
  .strictObject({
    agent: subjectName.optional(),
    user: subjectName.optional(),
    team: subjectName.optional(),
    org: subjectName.optional(),
    rule: subjectName.optional(),
  })
  .refine((subject) => PAUSABLE.filter((kind) => subject[kind] !== undefined).length === 1, `must name exactly one of ${PAUSABLE.join(', ')}`)

function checkSubject(subject: Pause['for']): Pick<Pause, 'for'> {
  const [kind, value] = subjectOf({ for: checkRequest(pausedSubject, subject, 'for') })
  return { for: { [kind]: value } }
}

/** The subject as the audit names it; it identifies the pause. */
function nameOf(pause: Pick<Pause, 'for'>): string {
  return subjectOf(pause).join(' ')
}

/** Pauses the calls of a subject; calls that run already go on. Returns false where they were paused before. @throws RequestInvalid, RULE_UNKNOWN */
export async function pause(
  policyClient: PolicyClient,
  input: Pause['for'],
  options: { by?: string | undefined; reason?: string | undefined } = {},
): Promise<boolean> {
  const subject = checkSubject(input)
  const name = nameOf(subject)
  const { rule } = subject.for
  const by = actorOf(options.by, policyClient.actor)
  const { reason } = checkRequest(z.object({ reason: freeText.optional() }), options, 'pause')
  let paused = false
  await policyClient.change((policy, nowMs) => {
    if (policy.pauses.some((one) => nameOf(one) === name)) return { policy, noted: [] }
    if (rule !== undefined && !hasRule(policy, rule)) throw unknownRule(rule)
    checkRoom('pauses', policy.pauses)
    paused = true
    const pause: Pause = { ...subject, by, ...(reason === undefined ? {} : { reason }), since: new Date(nowMs).toISOString() }
    const pauses = [...policy.pauses, pause]
    return { policy: { ...policy, pauses }, noted: [{ by, what: 'calls.paused', subject: name, before: null, after: pause }] }
  })
  return paused
}

/** Ends the pause of a subject: its calls go on at once, unless another pause covers them. Returns whether they were paused. @throws RequestInvalid */
export async function resume(policyClient: PolicyClient, input: Pause['for'], options: { by?: string | undefined } = {}): Promise<boolean> {
  const name = nameOf(checkSubject(input))
  const by = actorOf(options.by, policyClient.actor)
  return policyClient.remove((policy) => {
    const before = policy.pauses.find((one) => nameOf(one) === name) ?? null
    const pauses = policy.pauses.filter((one) => one !== before)
    return { policy: { ...policy, pauses }, noted: [{ by, what: 'calls.resumed', subject: name, before, after: null }] }
  })
}

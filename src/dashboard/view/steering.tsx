import type { Override } from '../../policy/override.js'
import type { RulesBody } from '../model.js'
import { Ask, send } from './actions.js'
import { clockTime, duration, whole } from './format.js'
import { GrantForm, PauseForm } from './forms.js'
import { ActionsHead, Card, Sign } from './parts.js'

function allowText(allow: Override['allow']): string {
  if (allow === 'unlimited') return 'unlimited'
  return 'times' in allow ? `${allow.times}×` : 'other limits'
}

function subject(of: Readonly<Record<string, string | undefined>>): string {
  const [kind = '', name = ''] = Object.entries(of).find(([, value]) => value !== undefined) ?? []
  return `${kind} ${name}`
}

export function Overrides({ body, nowMs }: { body: RulesBody; nowMs: number }) {
  return (
    <Card id="grant" title="Overrides" note={`${whole(body.overrides.length)} in force; what is counted is never reset by one`}>
      {body.overrides.length > 0 && (
        <table class="t">
          <caption class="vh">Overrides in force</caption>
          <thead>
            <tr>
              <th>For</th>
              <th>Rules</th>
              <th>Allows</th>
              <th>Reason</th>
              <th>By</th>
              <th>Ends</th>
              <ActionsHead />
            </tr>
          </thead>
          <tbody>
            {body.overrides.map((one) => (
              <tr key={one.id}>
                <td class="lead">
                  <b>{subject(one.for)}</b>
                </td>
                <td>{one.everything === true ? 'all' : (one.rules?.join(', ') ?? 'all that count by it')}</td>
                <td>{allowText(one.allow)}</td>
                <td data-l="·">{one.reason}</td>
                <td data-l="by">{one.by}</td>
                <td class="end">
                  {clockTime(Date.parse(one.until), nowMs)} <small>in {duration(Date.parse(one.until) - nowMs)}</small>
                </td>
                <td class="act">
                  <Ask
                    text="End…"
                    label={`End the override for ${subject(one.for)}`}
                    question={{
                      title: `End the override for ${subject(one.for)}?`,
                      effect: `${subject(one.for)} is limited by the rules again at once, not only in ${duration(Date.parse(one.until) - nowMs)}. ${whole(one.uses)} calls have started under it.`,
                      button: 'End the override',
                      danger: true,
                      run: async () => {
                        await send('DELETE', `/v1/overrides/${encodeURIComponent(one.id)}`)
                        return `The override for ${subject(one.for)} has ended.`
                      },
                    }}
                  />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <GrantForm rules={body.rules.map(({ spec }) => spec.name)} filled={body.filled} />
    </Card>
  )
}

export function Pauses({ body, nowMs }: { body: RulesBody; nowMs: number }) {
  return (
    <Card id="pauses" title="Pauses" note={body.pauses.length === 0 ? 'none' : undefined}>
      {body.pauses.length > 0 && (
        <ul class="todo">
          {body.pauses.map((one) => (
            <li key={subject(one.for)}>
              <Sign state="stopped" small />
              <span>
                <b>{subject(one.for)}</b>
                {one.waiting > 0 && `, ${whole(one.waiting)} calls wait`}
              </span>
              <Ask
                text="Resume…"
                label={`Resume ${subject(one.for)}`}
                question={{
                  title: `Resume ${subject(one.for)}?`,
                  effect:
                    one.waiting > 0 ? `${whole(one.waiting)} calls go on, as fast as their limits allow.` : 'No call waits for it now; new ones start again.',
                  button: 'Resume',
                  run: async () => {
                    await send(
                      'DELETE',
                      `/v1/pauses?${new URLSearchParams(Object.entries(one.for).filter((entry): entry is [string, string] => entry[1] !== undefined))}`,
                    )
                    return `${subject(one.for)} was resumed.`
                  },
                }}
              />
              <small>
                since {clockTime(Date.parse(one.since), nowMs)}, for {duration(nowMs - Date.parse(one.since))}, by {one.by}
                {one.reason !== undefined && `: “${one.reason}”`}
              </small>
            </li>
          ))}
        </ul>
      )}
      <PauseForm filled={body.filled} />
    </Card>
  )
}

import { useEffect, useState } from 'preact/hooks'
import type { RulePreview } from '../rule-preview.js'
import { Ask, send, useActions } from './actions.js'
import { linkWith } from './format.js'

const QUIET_MS = 250

/** A rule in the form of a rules file: checked while one types, with what changes and what that does, before it is applied. */
export function Editor({ name, yaml, url }: { name: string; yaml: string; url: string }) {
  const { mayChange, ask } = useActions()
  // What the rule was when the editor opened: a change by another administrator meanwhile is not overwritten.
  const [base] = useState(yaml)
  const [text, setText] = useState(yaml)
  const [preview, setPreview] = useState<RulePreview | null>(null)
  useEffect(() => {
    if (!mayChange || (text === base && name !== '')) return setPreview(null)
    let over = false
    const timer = setTimeout(() => {
      send<RulePreview>('POST', '/dashboard/rule-preview', { name, yaml: text }).then(
        (answer) => over || setPreview(answer),
        (error: Error) => over || setPreview({ faults: [error.message], diff: [], effects: [], warnings: [] }),
      )
    }, QUIET_MS)
    return () => {
      over = true
      clearTimeout(timer)
    }
  }, [text, base, name, mayChange])
  const valid = preview !== null && preview.faults.length === 0 && preview.diff.some(({ kind }) => kind !== 'same')
  const closed = linkWith(url, { edit: undefined })
  const apply = () =>
    ask({
      title: name === '' ? 'Add this rule?' : `Apply the change of ${name}?`,
      effect: preview?.effects.join(' ') ?? '',
      button: 'Apply',
      run: async () => {
        const { name: applied } = await send<{ name: string }>('POST', '/dashboard/rule', { name, base, yaml: text })
        return `The rule ${applied} is in force.`
      },
    })
  return (
    <div class="edit">
      <div>
        <label for="yaml">
          <b>{name === '' ? 'A new rule' : name}</b> <small>as in the rules file</small>
        </label>
        <textarea
          id="yaml"
          rows={Math.min(24, Math.max(8, text.split('\n').length))}
          spellcheck={false}
          readOnly={!mayChange}
          value={text}
          aria-describedby="checked"
          onInput={({ currentTarget }) => setText(currentTarget.value)}
        />
        <div id="checked" class="s" role="status">
          {preview === null ? (
            <span class="soft">{base === yaml ? 'Unchanged.' : 'Another change was applied meanwhile: close and open the editor again.'}</span>
          ) : preview.faults.length > 0 ? (
            <ul class="faults">
              {preview.faults.map((fault) => (
                <li key={fault}>■ {fault}</li>
              ))}
            </ul>
          ) : (
            '● Valid. What is counted is kept; no call loses its place.'
          )}
        </div>
      </div>
      <div>
        <b id="changes">What changes</b>
        {preview === null || preview.diff.length === 0 ? (
          <p class="soft">Nothing yet.</p>
        ) : (
          // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, and the keyboard has to reach it
          <pre class="diff" tabIndex={0}>
            {preview.diff.map(({ kind, text: line }, n) => (
              <span key={n} class={kind}>
                {kind === 'added' ? '+' : kind === 'removed' ? '−' : ' '} {line}
              </span>
            ))}
          </pre>
        )}
        {preview?.effects.map((effect) => (
          <p key={effect} class="s">
            {effect}
          </p>
        ))}
        {preview?.warnings.map((warning) => (
          <p key={warning} class="s warn">
            ▲ {warning}
          </p>
        ))}
        <p class="buttons">
          <button type="button" class="btn main" disabled={!mayChange || !valid} onClick={apply}>
            Apply…
          </button>
          <a class="btn" href={closed}>
            Discard
          </a>
          {name !== '' && (
            <Ask
              text="Remove…"
              label={`Remove the rule ${name}`}
              question={{
                title: `Remove the rule ${name}?`,
                effect:
                  'Its limits hold nothing up any more, and the calls in its lines go on. A declared rule comes back with the next declaration of the rules file.',
                button: 'Remove the rule',
                danger: true,
                run: async () => {
                  await send('DELETE', `/v1/rules/${encodeURIComponent(name)}`)
                  return `The rule ${name} was removed.`
                },
              }}
            />
          )}
          <small>in force everywhere within a second</small>
        </p>
      </div>
    </div>
  )
}

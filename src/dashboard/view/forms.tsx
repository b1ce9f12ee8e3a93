import { type ComponentChildren, createContext } from 'preact'
import { useContext, useState } from 'preact/hooks'
import { send, useActions } from './actions.js'

type Values = Readonly<Record<string, string>>

/** The fields of the form around, and how one of them changes. */
const Fields = createContext<{ values: Values; set: (name: string, value: string) => void }>({ values: {}, set: () => {} })

function Text({ name, label, placeholder, size = 12 }: { name: string; label: string; placeholder?: string; size?: number }) {
  const { values, set } = useContext(Fields)
  const { mayChange } = useActions()
  return (
    <label>
      {label}
      <input
        size={size}
        value={values[name] ?? ''}
        placeholder={placeholder}
        disabled={!mayChange}
        onInput={({ currentTarget }) => set(name, currentTarget.value)}
      />
    </label>
  )
}

function Choice({ name, label, options }: { name: string; label: string; options: readonly string[] }) {
  const { values, set } = useContext(Fields)
  const { mayChange } = useActions()
  return (
    <label>
      {label}
      <select value={values[name]} disabled={!mayChange} onChange={({ currentTarget }) => set(name, currentTarget.value)}>
        {options.map((one) => (
          <option key={one} value={one} selected={one === values[name]}>
            {one}
          </option>
        ))}
      </select>
    </label>
  )
}

interface FormProps {
  begin: Values
  button: string
  danger?: boolean
  title: (values: Values) => string
  /** Reads what it would do: figures, before anything is changed. */
  effect: (values: Values) => Promise<string>
  run: (values: Values) => Promise<string>
  children: ComponentChildren
}

/** Fields and a button: the button asks once, with the effect. */
function Form({ begin, button, danger = false, title, effect, run, children }: FormProps) {
  const { mayChange, ask } = useActions()
  const [values, setValues] = useState(begin)
  return (
    <Fields.Provider value={{ values, set: (name, value) => setValues((before) => ({ ...before, [name]: value })) }}>
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault()
          ask({ title: title(values), effect: () => effect(values), button, danger, run: () => run(values) })
        }}
      >
        {children}
        <button type="submit" class={`btn${danger ? ' danger' : ''}`} disabled={!mayChange}>
          {button}…
        </button>
      </form>
    </Fields.Provider>
  )
}

const UNITS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000 }

/** 1h, 30 min, 2d. @throws where it is none */
export function parseDuration(text: string): number {
  const [, count, unit] = /^\s*(\d+(?:\.\d+)?)\s*(s|m|min|h|d)\s*$/.exec(text) ?? []
  if (count === undefined || unit === undefined) throw new Error('“For how long” must be a time such as 30m, 1h or 2d.')
  return Number(count) * (UNITS[unit] ?? 1)
}

/** 2×, 0.5x, 3, unlimited. @throws where it is none */
export function parseAllow(text: string): 'unlimited' | { times: number } {
  if (text.trim() === 'unlimited') return 'unlimited'
  const times = Number(text.replace(/[×x]\s*$/, ''))
  if (!(times > 0)) throw new Error('“Allows” must be a multiple such as 2× or 0.5×, or the word unlimited.')
  return { times }
}

const REASONS = ['incident', 'customer_request', 'emergency_access', 'maintenance', 'testing', 'other']

function grantOf({ kind = 'org', name = '', rules = '', allow = '', reason = '', lasts = '' }: Values) {
  const globs = rules
    .split(',')
    .map((one) => one.trim())
    .filter((one) => one !== '')
  return { for: { [kind]: name }, ...(globs.length === 0 ? {} : { rules: globs }), allow: parseAllow(allow), reason, forMs: parseDuration(lasts) }
}

async function effectOf(kind: string, given: unknown): Promise<string> {
  const { effects } = await send<{ effects: string[] }>('POST', `/dashboard/${kind}-effect`, given)
  return effects.join(' ')
}

export function GrantForm({ rules, filled }: { rules: readonly string[]; filled: Values }) {
  const begin = { kind: 'org', name: '', rules: '', allow: '2×', reason: 'incident', lasts: '1h', ...filled }
  return (
    <Form
      begin={begin}
      button="Grant"
      title={({ kind, name }) => `Grant an override for ${kind} ${name}?`}
      effect={async (values) => effectOf('grant', grantOf(values))}
      run={async (values) => {
        await send('POST', '/v1/overrides', grantOf(values))
        return `The override for ${values['kind']} ${values['name']} is in force.`
      }}
    >
      <Choice name="kind" label="For" options={['org', 'team', 'user', 'agent', 'ip', 'rule']} />
      <Text name="name" label="Name" />
      <Text name="rules" label="Rules" placeholder={rules.length > 0 ? 'all that count by it' : 'all'} size={18} />
      <Text name="allow" label="Allows" size={8} />
      <Choice name="reason" label="Reason" options={REASONS} />
      <Text name="lasts" label="For how long" size={6} />
    </Form>
  )
}

export function PauseForm({ filled }: { filled: Values }) {
  const subject = ({ pause = 'agent', paused = '' }: Values) => ({ [pause]: paused })
  return (
    <Form
      begin={{ pause: 'agent', paused: '', why: '', ...filled }}
      button="Pause"
      title={({ pause, paused }) => `Pause ${pause} ${paused}?`}
      effect={(values) => effectOf('pause', { for: subject(values) })}
      run={async (values) => {
        const { why = '' } = values
        await send('POST', '/v1/pauses', { for: subject(values), ...(why === '' ? {} : { reason: why }) })
        return `${values['pause']} ${values['paused']} is paused.`
      }}
    >
      <Choice name="pause" label="Pause" options={['agent', 'org', 'team', 'user', 'rule']} />
      <Text name="paused" label="Name" />
      <Text name="why" label="Why" size={18} />
    </Form>
  )
}

export function CapacityForm({ agents, filled }: { agents: readonly string[]; filled: Values }) {
  const limitOf = ({ requests = '' }: Values) => {
    if (requests.trim() === '') return null
    const limit = Number(requests.replaceAll(',', ''))
    if (!(limit >= 0)) throw new Error('“Requests” must be a number, or empty to take the capacity away.')
    return limit
  }
  return (
    <Form
      begin={{ agent: agents[0] ?? '', requests: '', per: 'minute', ...filled }}
      button="Set"
      title={({ agent }) => `Set the capacity of ${agent}?`}
      effect={async (values) => {
        const limit = limitOf(values)
        return limit === null
          ? `No limit set by hand holds for ${values['agent']} any more; its rules do.`
          : `At most ${limit.toLocaleString('en-US')} requests a ${values['per']} start at ${values['agent']}, whatever its rules allow; the others wait in line.`
      }}
      run={async (values) => {
        await send('PUT', `/v1/capacity/${encodeURIComponent(values['agent'] ?? '')}`, { limit: limitOf(values), per: values['per'] })
        return `The capacity of ${values['agent']} is set.`
      }}
    >
      <Text name="agent" label="Agent" />
      <Text name="requests" label="Requests" placeholder="empty: none" />
      <Choice name="per" label="Per" options={['second', 'minute', 'hour', 'day']} />
    </Form>
  )
}

export function ResetForm({ rules, filled }: { rules: readonly string[]; filled: Values }) {
  const meter = ({ rule = '', value = '' }: Values) => ({
    rule,
    ...(value === '' ? {} : { value: value.split('/').length > 1 && value.includes(' / ') ? value.split(' / ') : value }),
  })
  return (
    <Form
      begin={{ rule: rules[0] ?? '', value: '', ...filled }}
      button="Reset"
      danger
      title={({ rule, value }) => `Forget what ${rule} has counted for ${value === '' ? 'all calls' : value}?`}
      effect={(values) => effectOf('reset', meter(values))}
      run={async (values) => {
        await send('POST', '/v1/meters/reset', meter(values))
        return `What ${values['rule']} had counted was forgotten.`
      }}
    >
      <Choice name="rule" label="Rule" options={rules} />
      <Text name="value" label="Value" placeholder="acme / ida" />
    </Form>
  )
}

import { COST_UNITS } from '../../src/model/cost.js'

/** A call with one fault, and the message that must name it. */
export interface BadCall {
  readonly what: string
  readonly call: unknown
  readonly message: RegExp
}

export const MEGABYTE = 1024 * 1024

function costs(): BadCall[] {
  const values: [string, unknown, string][] = [
    ['a negative number', -1, '-1'],
    ['1e300', 1e300, '1e\\+300'],
    ['just above the largest', 1e12 + 1, '1000000000001'],
    ['NaN', Number.NaN, 'NaN'],
    ['infinity', Number.POSITIVE_INFINITY, 'Infinity'],
    ['minus infinity', Number.NEGATIVE_INFINITY, '-Infinity'],
    ['a string', '5', '"5"'],
    ['null', null, 'null'],
    ['a bigint', 5n, '5'],
    ['an object', {}, '\\{\\}'],
  ]
  return COST_UNITS.flatMap((unit) =>
    values.map(([what, value, shown]) => ({
      what: `a cost of ${what} in ${unit}`,
      call: { agent: 'a', cost: { [unit]: value } },
      message: new RegExp(`^cost\\.${unit}: must be a number from 0 to 1000000000000 \\(got ${shown}\\)$`),
    })),
  )
}

function names(): BadCall[] {
  const values: [string, unknown, RegExp][] = [
    ['an empty name', '', /must have at least 1 character \(got ""\)$/],
    ['a name of 257 characters', 'x'.repeat(257), /must have at most 256 characters \(got "x+… \(259 characters\)\)$/],
    ['a name of a megabyte', 'x'.repeat(MEGABYTE), /must have at most 256 characters \(got "x+… \(1048578 characters\)\)$/],
    ['a high surrogate alone', 'a\ud800', /must be well-formed unicode \(got "a\\ud800"\)$/],
    ['a low surrogate alone', '\udc00a', /must be well-formed unicode \(got "\\udc00a"\)$/],
    ['a line break', 'a\nb', /must not contain control characters \(got "a\\nb"\)$/],
    ['a NUL', 'a\u0000', /must not contain control characters \(got "a\\u0000"\)$/],
    ['an escape', '\u001b[31m', /must not contain control characters \(got "\\u001b\[31m"\)$/],
    ['a DEL', 'a\u007f', /must not contain control characters/],
    ['a C1 control character', 'a\u009b31m', /must not contain control characters/],
    ['a number as a name', 5, /must be a text \(got 5\)$/],
    ['null as a name', null, /must be a text \(got null\)$/],
    ['a list as a name', ['a'], /must be a text \(got \["a"\]\)$/],
  ]
  return ['agent', 'endpoint', 'model', 'user', 'team', 'org', 'id'].flatMap((field) =>
    values.map(([what, value, end]) => ({
      what: `${what} (${field})`,
      call: { agent: 'a', [field]: value },
      message: new RegExp(`^${field}: .*${end.source}`, 's'),
    })),
  )
}

function ids(): BadCall[] {
  const plain = ['7', '007', '-5', 'NaN', 'a:b', ':'].map((id) => ({
    what: `the id ${id}`,
    call: { agent: 'a', id },
    message: /^id: must not contain ':' or be a plain number \(got ".+"\)$/,
  }))
  const taken = ['wait', 'active', 'meta', 'events', 'delayed', 'completed', 'failed', 'prioritized', 'id', 'pc', 'marker', 'stalled-check'].map((id) => ({
    what: `the id ${id}, a key of its queue`,
    call: { agent: 'a', id },
    message: new RegExp(`^id: must not be the name of one of the keys of a queue \\(got "${id}"\\)$`),
  }))
  return [...plain, ...taken]
}

function keys(): BadCall[] {
  const one = (what: string, value: unknown, message: RegExp): BadCall => ({ what, call: { agent: 'a', keys: value }, message })
  return [
    one('keys that are a list', [], /^keys: must be an object with named fields \(got \[\]\)$/),
    one('keys that are text', 'region', /^keys: must be an object with named fields \(got "region"\)$/),
    one('a key of a wrong type', { region: 5 }, /^keys\.region: must be a text \(got 5\)$/),
    one('an empty key name', { '': 'x' }, /^keys\.: the key's name: must have at least 1 character \(got ""\)$/),
    one(
      'a key name of a megabyte',
      { ['k'.repeat(MEGABYTE)]: 'x' },
      /^keys\.k+… \(1048581 characters\): the key's name: must have at most 256 characters \(got "k+…/,
    ),
    one('a key name with a line break', { 'a\nb': 'x' }, /^keys\.a\\nb: the key's name: must not contain control characters \(got "a\\nb"\)$/),
    one('a key named __proto__', JSON.parse('{"__proto__":"x"}'), /^keys\.__proto__: is not a name that a key can have \(got "x"\)$/),
  ]
}

export const BAD_CALLS: readonly BadCall[] = [
  { what: 'no agent', call: { user: 'u' }, message: /^agent: .*is required: it must be a text \(got undefined\)$/ },
  { what: 'null for a call', call: null, message: /^call: must be an object with named fields \(got null\)$/ },
  { what: 'text for a call', call: 'call', message: /^call: must be an object with named fields \(got "call"\)$/ },
  { what: 'a list for a call', call: [], message: /^call: must be an object with named fields \(got \[\]\)$/ },
  { what: 'an unknown field', call: { agent: 'a', usr: 'u' }, message: /^usr: is not a field of a call \(got "u"\)$/ },
  {
    what: 'an unknown field of a megabyte',
    call: { agent: 'a', ['f'.repeat(MEGABYTE)]: 1 },
    message: /^f+… \(1048576 characters\): is not a field of a call \(got 1\)$/,
  },
  {
    what: '__proto__ as a field',
    call: JSON.parse('{"agent":"a","__proto__":{"user":"u"}}'),
    message: /^__proto__: is not a field of a call \(got \{"user":"u"\}\)$/,
  },
  { what: 'constructor as a field', call: { agent: 'a', constructor: 'x' }, message: /^constructor: is not a field of a call \(got "x"\)$/ },
  { what: 'an unknown unit of cost', call: { agent: 'a', cost: { letters: 5 } }, message: /^cost\.letters: is not a field of a call \(got 5\)$/ },
  { what: 'a cost that is a number', call: { agent: 'a', cost: 5 }, message: /^cost: .*must be an object with named fields \(got 5\)$/ },
  { what: 'a cost that is a list', call: { agent: 'a', cost: [] }, message: /^cost: .*must be an object with named fields \(got \[\]\)$/ },
  {
    what: '__proto__ as a unit of cost',
    call: JSON.parse('{"agent":"a","cost":{"__proto__":5}}'),
    message: /^cost\.__proto__: is not a field of a call \(got 5\)$/,
  },
  ...['', 'localhost', '10.0.0', '10.0.0.256', '010.0.0.1', '::g', '10.0.0.0/8', `${'1'.repeat(MEGABYTE)}`].map((ip) => ({
    what: `the ip ${ip.slice(0, 20)}`,
    call: { agent: 'a', ip },
    message: /^ip: .*(must be an IPv4 or IPv6 address|must have at most 64 characters) \(got .*\)$/,
  })),
  { what: 'a priority too high', call: { agent: 'a', priority: 4001 }, message: /^priority: .*from -4000 to 4000 \(got 4001\)$/ },
  { what: 'a priority too low', call: { agent: 'a', priority: -4001 }, message: /^priority: .*from -4000 to 4000 \(got -4001\)$/ },
  ...[1.5, Number.NaN, Number.POSITIVE_INFINITY, '1', null].map((priority) => ({
    what: `the priority ${JSON.stringify(priority)} of type ${typeof priority} (${String(priority)})`,
    call: { agent: 'a', priority },
    message: /^priority: must be a whole number from -4000 to 4000 \(got .*\)$/,
  })),
  {
    what: 'an unknown strategy',
    call: { agent: 'a', strategy: 'later' },
    message: /^strategy: must be one of queue, throttle, graceful, retry_after, hard or custom:<name> \(got "later"\)$/,
  },
  ...costs(),
  ...names(),
  ...ids(),
  ...keys(),
]

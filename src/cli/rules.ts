import type { Command } from 'commander'
import type { RuleSpec } from '../policy/rule.js'
import { type ByFlag, type Common, changing, common, parseCall, parseJson, print, withTollgate } from './common.js'

export function rulesCommands(program: Command): void {
  const rules = program.command('rules').description('the rules of a namespace')
  common(rules.command('list').description('the rules in force')).action((options: Common) =>
    withTollgate(options, async (tollgate) => ({ prints: tollgate.rules.list() })),
  )
  changing(rules.command('add <rule>').description('add a rule, given as JSON, beside the declared ones')).action((text: string, options: Common & ByFlag) => {
    const rule = parseJson(text, 'rule', 'RULES_INVALID') as RuleSpec
    return withTollgate(options, async (tollgate) => {
      await tollgate.rules.add(rule, options)
      return { prints: { added: rule.name } }
    })
  })
  changing(rules.command('remove <name>').description('take a rule away; a declared one comes back when it is declared anew')).action(
    (name: string, options: Common & ByFlag) =>
      withTollgate(options, async (tollgate) => {
        const removed = await tollgate.rules.remove(name, options)
        return { prints: { name, removed }, ok: removed }
      }),
  )
  changing(rules.command('apply <file>').description('make a rules file the namespace’s, everywhere within a second; usage is kept')).action(
    (file: string, options: Common & ByFlag) =>
      withTollgate(options, async (tollgate) => {
        await tollgate.rules.apply(file, undefined, options.by === undefined ? {} : { by: options.by })
        return { prints: { applied: tollgate.rules.list().length } }
      }),
  )
  rules
    .command('test <file>')
    .description('check a rules file; changes nothing and needs no Redis')
    .option('--call <call>', 'say which rules cover this call, given as JSON, and why the others do not')
    .option('--redis <url>', 'with --call: say how these rules stand now (default: REDIS_URL)')
    .option('--namespace <name>', 'the gate whose limits these are (default: default)')
    .option('--json', 'one line of JSON')
    .action(async (file: string, { call: text, ...options }: Common & { call?: string }) => {
      // Here and not at the top: other commands, and help, need none of it.
      const [{ NOTHING }, { coverageOf, warningsOf }, { readRules }] = await Promise.all([
        import('../model/cost.js'),
        import('../policy/lint.js'),
        import('../policy/rules-file.js'),
      ])
      const content = await readRules(file)
      const tested = { valid: true, rules: content.rules.length, agents: Object.keys(content.agents), warnings: warningsOf(content) }
      if (text === undefined) return print(tested, options.json)
      const named = await parseCall(text)
      const call =
        named.endpoint === undefined && Object.hasOwn(content.endpoints, named.agent) ? { ...named, endpoint: content.endpoints[named.agent] } : named
      const covered = coverageOf(content.rules, call)
      if (options.redis === undefined && process.env['REDIS_URL'] === undefined) return print({ ...tested, call: covered }, options.json)
      await withTollgate(options, async (tollgate) => {
        const { usage } = await tollgate.gate.peek({ ...call, cost: NOTHING })
        const standing = (rule: string) => usage.filter((one) => one.rule === rule)
        return {
          prints: {
            ...tested,
            call: covered.map((one) => (one.covers ? { ...one, inForce: tollgate.rules.get(one.rule) !== null, usage: standing(one.rule) } : one)),
          },
        }
      })
    })
  common(rules.command('diff <file>').description('what `rules apply` of a file would change; changes nothing')).action((file: string, options: Common) =>
    withTollgate(options, async (tollgate) => ({ prints: await tollgate.rules.diff(file) })),
  )
}

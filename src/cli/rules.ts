import type { Command } from 'commander'
import type { RuleSpec } from '../policy/rule.js'
import { readRules } from '../policy/rules-file.js'
import { type ByFlag, type Common, changing, common, parseJson, print, withTollgate } from './common.js'

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
    .option('--json', 'one line of JSON')
    .action(async (file: string, options: Common) => {
      const content = await readRules(file)
      print({ valid: true, rules: content.rules.length, agents: Object.keys(content.agents) }, options.json)
    })
}

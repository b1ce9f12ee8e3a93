import type { Command } from 'commander'
import { type ByFlag, type Common, changing, common, withTollgate } from './common.js'

interface UpstreamFlags extends Common, ByFlag {
  endpoint?: string
  model?: string
}

function upstream(command: Command): Command {
  return command.option('--endpoint <path>', 'of this endpoint').option('--model <name>', 'of this model')
}

export function meterCommands(program: Command): void {
  const meters = program.command('meters').description('what limits have counted')
  common(meters.command('get <rule> [value]').description('the usage of the limits of a rule for one scope value')).action(
    (rule: string, value: string | undefined, options: Common) =>
      withTollgate(options, async (tollgate) => ({ prints: await tollgate.meters.get({ rule, value }) })),
  )
  changing(program.command('reset <rule> [value]').description('forget what the limits of a rule have counted for one scope value')).action(
    (rule: string, value: string | undefined, options: Common & ByFlag) =>
      withTollgate(options, async (tollgate) => {
        await tollgate.meters.reset({ rule, value, by: options.by })
        return { prints: { rule, value: value ?? '*', reset: true } }
      }),
  )
  const capacity = program.command('capacity').description('what agents allow at the moment')
  upstream(common(capacity.command('get <agent>').description('whether an agent is blocked or recovers, and the part of its limits that is used'))).action(
    (agent: string, { endpoint, model, ...options }: UpstreamFlags) =>
      withTollgate(options, async (tollgate) => ({ prints: await tollgate.capacity.get({ agent, endpoint, model }) })),
  )
  changing(
    capacity
      .command('set <agent> <requests>')
      .description('set how many requests an agent takes; none takes the setting away')
      .option('--per <window>', 'second, minute, hour, day or a duration (default: minute)'),
  ).action((agent: string, requests: string, { per, by, ...options }: Common & ByFlag & { per?: string }) =>
    withTollgate(options, async (tollgate) => {
      await tollgate.setCapacity(agent, requests === 'none' ? null : Number(requests), per, { by })
      return { prints: { agent, requests: requests === 'none' ? null : Number(requests), per: per ?? 'minute' } }
    }),
  )
  upstream(changing(capacity.command('lift <agent>').description('end the block of an agent, endpoint and model now'))).action(
    (agent: string, { endpoint, model, ...options }: UpstreamFlags) =>
      withTollgate(options, async (tollgate) => {
        const lifted = await tollgate.meters.lift({ agent, endpoint, model, by: options.by })
        return { prints: { agent, lifted }, ok: lifted }
      }),
  )
}

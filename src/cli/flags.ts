import type { Command } from 'commander'

/** The flags of a worker process; each has its environment variable and its name in the config file. */
export function workerFlags(command: Command): Command {
  return command
    .option('--config <file>', 'settings by name, as YAML (TOLLGATE_CONFIG)')
    .option('--rules <file>', 'the rules file, with its agents (TOLLGATE_RULES)')
    .option('--require-rules', 'end where the namespace has no rules (TOLLGATE_REQUIRE_RULES)')
    .option('--redis <url>', 'redis://, rediss://, sentinel://, redis-cluster:// or unix:// URL (REDIS_URL)')
    .option('--namespace <name>', 'the gate (TOLLGATE_NAMESPACE)')
    .option('--queue <name>', 'the BullMQ queue (TOLLGATE_QUEUE)')
    .option('--concurrency <calls>', 'calls that run at once (TOLLGATE_CONCURRENCY)')
    .option('--timeout-ms <ms>', 'how long a call may take, 0 = as long as it likes (TOLLGATE_TIMEOUT_MS)')
    .option('--lease-ms <ms>', 'silence after which its calls are given to another worker (TOLLGATE_LEASE_MS)')
    .option('--metrics-port <port>', 'serve /metrics to Prometheus there (TOLLGATE_METRICS_PORT)')
    .option('--bus <url>', 'how news of agents gets around: redis, memory or nats://… (TOLLGATE_BUS)')
    .option('--replicas <count>', 'replicas that must have a charge before it counts (TOLLGATE_REPLICAS)')
    .option('--webhook-hosts <hosts>', 'hosts that webhooks may reach though they are not public (TOLLGATE_WEBHOOK_HOSTS)')
    .option('--log-level <level>', 'fatal to trace, or silent (TOLLGATE_LOG_LEVEL)')
}

/** The flags of the server; every setting has an environment variable and its name in the config file besides. */
export function serverFlags(command: Command): Command {
  return command
    .option('--config <file>', 'settings by name, as YAML (TOLLGATE_CONFIG)')
    .option('--rules <file>', 'the rules file, with its agents (TOLLGATE_RULES)')
    .option('--redis <url>', 'redis://, rediss://, sentinel://, redis-cluster:// or unix:// URL (REDIS_URL)')
    .option('--namespace <name>', 'the gate (TOLLGATE_NAMESPACE)')
    .option('--queue <name>', 'the BullMQ queue (TOLLGATE_QUEUE)')
    .option('--host <address>', 'the address to listen at (TOLLGATE_HOST)')
    .option('--port <port>', 'the port, 0 = any free one (TOLLGATE_PORT)')
    .option('--log-level <level>', 'fatal to trace, or silent (TOLLGATE_LOG_LEVEL)')
}

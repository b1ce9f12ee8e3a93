import { type Call, validateCall } from '../call.js'
import { DEFAULTS } from '../config/defaults.js'
import { type Estimate, estimateTokens } from '../cost/estimate.js'
import type { RejectDecision, RunDecision } from '../decision.js'
import type { Asked } from './asked.js'
import type { Gate } from './gate.js'
import { type Answer, answerOf, Grant } from './grant.js'
import { LedgerNames } from './ledger-names.js'
import { Turn } from './turn.js'

/** The gate without the queue: ask, and ask and charge. */
export class Checks {
  private readonly gate: Gate
  private readonly estimate: Estimate | undefined
  private readonly admits: Turn<Asked, { asked: Asked; decision: RunDecision | RejectDecision }>
  private readonly peeks: Turn<Asked, RunDecision | RejectDecision>
  private readonly ledgers = new LedgerNames()

  constructor(gate: Gate, estimate: Estimate | undefined) {
    this.gate = gate
    this.estimate = estimate
    const weight = (asked: Asked) => asked.demand.parts.length + 1
    this.admits = new Turn(DEFAULTS.batchKeys, weight, (asked) => this.send(asked))
    this.peeks = new Turn(DEFAULTS.batchKeys, weight, (asked) => gate.peek(asked) as Promise<(RunDecision | RejectDecision)[]>)
  }

  /** What the gate would say; charges nothing. @throws CallInvalid */
  async peek(call: Call): Promise<Answer> {
    return answerOf(await this.peeks.ask(await this.ask(call)))
  }

  /** Charges the call if all its limits have room, and no one of them if not. @throws CallInvalid */
  async admit(call: Call): Promise<Grant> {
    const asked = await this.ask(call)
    const decided = await this.admits.ask(asked)
    return new Grant(this.gate, decided.asked, decided.decision)
  }

  /** Checks that travel together share one ledger; one with an id of its own has its own entry, found by that id. */
  private async send(asked: readonly Asked[]): Promise<{ asked: Asked; decision: RunDecision | RejectDecision }[]> {
    const ledger = this.ledgers.next()
    const entered = asked.map((one, index) => (one.call.id === undefined ? { ...one, id: `${ledger}.${index}`, token: String(index), ledger } : one))
    const decisions = (await this.gate.direct(entered)) as (RunDecision | RejectDecision)[]
    return entered.map((one, index) => ({ asked: one, decision: decisions[index] as RunDecision | RejectDecision }))
  }

  private async ask(input: Call): Promise<Asked> {
    const call = validateCall(input)
    const tokens = call.cost?.tokens ?? (this.gate.needsTokens(call) ? await estimateTokens(call, this.estimate) : 0)
    return { id: `~/${call.id ?? ''}`, token: '', call, demand: this.gate.demand(call, tokens) }
  }
}

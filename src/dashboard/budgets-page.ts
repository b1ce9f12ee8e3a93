import type { Figures } from './figures.js'
import type { BudgetsBody } from './model.js'
import type { PageQuery } from './pages.js'

/** What is spent, against what may be: by org, team, user or model. */
export async function budgetsBody(figures: Figures, { by, unit, open }: PageQuery<'budgets'>): Promise<BudgetsBody> {
  const [rows, users, models] = await Promise.all([figures.spend(by, unit), figures.spend('user', unit), figures.spend('model', 'tokens')])
  return { page: 'budgets', by, unit, rows, open: open ?? null, users, models }
}

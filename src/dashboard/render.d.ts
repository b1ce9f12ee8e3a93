import type { PageModel } from './model.js'

/** A page as HTML. The build makes it of `view/` (scripts/dashboard.mjs). */
export function renderPage(model: PageModel, assetsVersion: string): string

/** What browsers load, by file name. The build makes it of `view/` (scripts/dashboard.mjs). */
export const ASSETS: Readonly<Record<string, string>>
/** Changes with any of them. */
export const ASSETS_VERSION: string

/** The longest part of an agent's words that is quoted, in characters. */
export const QUOTED_WORDS = 500
/** What is looked through for secrets: much more than is quoted, and little enough to cost nothing. */
const LOOKED_THROUGH = 8000
const HIDDEN = '[hidden]'

/** What looks like a key, a password or a token, however an agent came to echo it. */
const SECRETS: readonly (readonly [RegExp, string])[] = [
  // Keys of agents by their prefixes: sk-…, gsk_…, hf_…, AIza…, AKIA…; a part of one that an agent has starred, too.
  [/\b(?:sk|pk|rk|sess|gsk|hf|r8|xai|pplx|nvapi|ghp|gho|ghs|github_pat|glpat|xox[abprs]|key|tok)[-_][\w*.-]{6,}/gi, HIDDEN],
  [/\bAIza[\w-]{10,}|\b(?:AKIA|ASIA)[A-Z0-9]{12,}/g, HIDDEN],
  [/\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?/g, HIDDEN],
  [/\b(Bearer|Basic)\s+[^\s"',;}]+/gi, `$1 ${HIDDEN}`],
  [/(:\/\/)[^\s/@"']+@/g, `$1${HIDDEN}@`],
  [
    /((?:api[-_ ]?key|access[-_ ]?key|secret|password|passwd|authorization|(?:access|auth|api|refresh)[-_ ]?token|[?&]key)\\?["']?\s*[:=]\s*\\?["']?)(?!Bearer|Basic|\[hidden)[^\s"'\\,;&}]+/gi,
    `$1${HIDDEN}`,
  ],
  // Long texts of letters and digits without a break, such as keys without a prefix; ids of requests are shorter.
  [/\b(?=[A-Za-z_]*\d)(?=\d*[A-Za-z_])[\w]{32,}\b/g, HIDDEN],
]

/**
 * What an agent said, fit for an error message: without secrets, control characters and more than `QUOTED_WORDS` characters.
 * @param secrets known ones, such as the key that the agent was sent
 */
export function fitWords(text: string, secrets: readonly string[] = []): string {
  let words = text.slice(0, LOOKED_THROUGH)
  for (const secret of secrets) if (secret.length > 3) words = words.replaceAll(secret, HIDDEN)
  for (const [pattern, instead] of SECRETS) words = words.replace(pattern, instead)
  words = words.replace(/\p{Cc}+/gu, ' ')
  return words.slice(0, QUOTED_WORDS).replace(/[\ud800-\udbff]$/, '')
}

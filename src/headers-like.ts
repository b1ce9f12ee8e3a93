/** Headers as clients have them: `Headers`, or a plain object. */
export type HeadersLike = Headers | Readonly<Record<string, string | readonly string[] | number | null | undefined>>

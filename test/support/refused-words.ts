/** Words that leave open which class, process, job or request a sentence is about. */
export const REFUSED_WORDS = /\b(whoever|nobody|those\s+who|of\s+whom|(?:what|nothing)\s+was\s+said)\b/gi

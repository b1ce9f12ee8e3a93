/**
 * The text of every file in `lua/`, by its path there. The build writes the module (`scripts/lua-text.mjs`); tests get it from the same generator, so
 * they run the Lua that is in `lua/` at that moment.
 */
export declare const LUA_TEXT: Readonly<Record<string, string>>

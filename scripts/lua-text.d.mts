import type { Plugin } from 'vitest/config'

export function luaFiles(): string[]
export function luaTextModule(): string
export function writeLuaText(folder: string, format: 'esm' | 'cjs'): void
export function luaTextPlugin(): Plugin

import type { Plugin } from 'vitest/config'

export function viewFiles(): string[]
export function writeDashboard(folder: string): Promise<void>
export function dashboardPlugin(): Plugin

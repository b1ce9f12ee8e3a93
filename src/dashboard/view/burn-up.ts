import uPlot from 'uplot'
import { amountText, dayOf } from './format.js'
import type { burnUp } from './plot.js'

/** The colours of the page, as the style sheet has them now: light or dark. */
function colours(place: Element): Record<'accent' | 'soft' | 'warn' | 'edge', string> {
  const probe = document.createElement('i')
  place.append(probe)
  const read = (name: string) => {
    probe.className = `colour-${name}`
    return getComputedStyle(probe).color
  }
  const found = { accent: read('accent'), soft: read('soft'), warn: read('warn'), edge: read('edge') }
  probe.remove()
  return found
}

const HEIGHT = 220
const short = (value: number, unit: string) => (unit === 'usd' && value >= 10 ? `$${Math.round(value).toLocaleString('en-US')}` : amountText(value, unit))

/** Draws the plot into its place, again where the place changes its width or the theme its colours. @returns what removes it */
export function drawBurnUp(place: HTMLElement, { times, spent, pace, low, high, even, limit }: ReturnType<typeof burnUp>, unit: string): () => void {
  const dark = matchMedia('(prefers-color-scheme: dark)')
  let plot: uPlot | undefined
  const draw = () => {
    plot?.destroy()
    const { accent, soft, warn, edge } = colours(place)
    const axis = { stroke: soft, font: '12px sans-serif', grid: { stroke: edge, width: 1 }, ticks: { show: false } }
    const line = (label: string, stroke: string, width = 1.5, dash?: number[]) => ({
      label,
      stroke,
      width,
      spanGaps: true,
      points: { show: false },
      ...(dash === undefined ? {} : { dash }),
      value: (_: uPlot, value: number | null) => (value === null ? '–' : amountText(value, unit)),
    })
    const optional = [...(even === null ? [] : [line('even pace', soft, 1, [3, 4])]), ...(limit === null ? [] : [line('limit', warn, 2)])]
    plot = new uPlot(
      {
        width: place.clientWidth,
        height: HEIGHT,
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), 'UTC'),
        legend: { show: false },
        cursor: { points: { size: 6 }, y: false },
        scales: { x: { time: true }, y: { range: (_, least, most) => [Math.min(0, least), Math.max(most * 1.05, 1e-6)] } },
        axes: [
          { ...axis, values: (_, ticks) => ticks.map((seconds) => dayOf(seconds * 1000)) },
          { ...axis, size: 64, values: (_, ticks) => ticks.map((value) => short(value, unit)) },
        ],
        bands: [{ series: [4, 3], fill: `color-mix(in oklab, ${soft} 25%, transparent)` }],
        series: [{}, line('spent', accent, 2.5), line('at this pace', soft), line('at least', 'transparent'), line('at most', 'transparent'), ...optional],
      },
      [times, spent, pace, low, high, ...(even === null ? [] : [even]), ...(limit === null ? [] : [limit])] as uPlot.AlignedData,
      place,
    )
  }
  draw()
  let width = place.clientWidth
  const resized = new ResizeObserver(() => {
    if (place.clientWidth === width) return
    width = place.clientWidth
    plot?.setSize({ width, height: HEIGHT })
  })
  resized.observe(place)
  dark.addEventListener('change', draw)
  return () => {
    resized.disconnect()
    dark.removeEventListener('change', draw)
    plot?.destroy()
  }
}

// Plain-text tables: columns as wide as their widest cell.
import { stripVTControlCharacters } from 'node:util'

export type Align = 'left' | 'right'

/** Rows of cells to lines; cells may hold colours. */
export function table(rows: readonly (readonly string[])[], align: readonly Align[]): string {
  const widths = align.map((_, column) => Math.max(0, ...rows.map((row) => width(row[column] ?? ''))))
  return rows
    .map((row) =>
      align
        .map((side, column) => {
          const cell = row[column] ?? ''
          const padding = ' '.repeat((widths[column] ?? 0) - width(cell))
          return side === 'right' ? padding + cell : cell + padding
        })
        .join('  ')
        .trimEnd(),
    )
    .map((line) => `  ${line}`)
    .join('\n')
}

function width(cell: string): number {
  return [...stripVTControlCharacters(cell)].length
}

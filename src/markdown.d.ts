// Markdown files are imported as text: esbuild's and vitest's configuration say so.
declare module '*.md' {
  const text: string
  // biome-ignore lint/style/noDefaultExport: a text module has nothing but its default export
  export default text
}

// Man pages and scripts are imported as text; the bundler does it (test/bundle-options.mjs).
declare module '*.md' {
  const text: string
  // biome-ignore lint/style/noDefaultExport: a text module has nothing but its default export
  export default text
}

declare module '*.sh' {
  const text: string
  // biome-ignore lint/style/noDefaultExport: a text module has nothing but its default export
  export default text
}

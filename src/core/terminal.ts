// What terminals are told.

/** What a guest's firmware leaves changed: lines wrap again, the cursor shows, no colours. */
export const ordinary = '\x1b[?7h\x1b[?25h\x1b[0m'

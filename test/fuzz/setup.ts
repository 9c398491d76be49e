// How many cases each property sees: 10 000 where nothing may be skipped, or as many as VLB_FUZZ_RUNS says; else
// fast-check's own 100, for those who wait.
import fc from 'fast-check'

const wanted = Number(process.env['VLB_FUZZ_RUNS'] ?? 0)
const runs = wanted > 0 ? wanted : process.env['VLB_TEST_REQUIRE'] === 'all' ? 10_000 : undefined
if (runs !== undefined) fc.configureGlobal({ numRuns: runs })

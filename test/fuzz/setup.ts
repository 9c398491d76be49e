// How many cases each property of the whole test run sees: 10 000 where nothing may be skipped, fewer for those who wait.
import fc from 'fast-check'

const wanted = Number(process.env['VLB_FUZZ_RUNS'] ?? 0)
const numRuns = wanted > 0 ? wanted : process.env['VLB_TEST_REQUIRE'] === 'all' ? 10_000 : 200

fc.configureGlobal({ numRuns })

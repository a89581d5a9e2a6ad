export {
  applies,
  Bench,
  type Check,
  type CheckGroup,
  type FaultyStore,
  type OpenOptions,
  type Part,
  runCheck,
  type StoreUnderTest,
} from "./check.ts";
export { coreTransactions } from "./checks/core-transactions.ts";
export { deadlines } from "./checks/deadlines.ts";
export { history } from "./checks/history.ts";
export { lostAnswers } from "./checks/lost-answers.ts";
export { namespaces } from "./checks/namespaces.ts";
export { processes } from "./checks/processes.ts";
export { reads } from "./checks/reads.ts";
export { sessions } from "./checks/sessions.ts";
export { stoppedServer } from "./checks/stopped-server.ts";
export { transactions } from "./checks/transactions.ts";
export { watches } from "./checks/watches.ts";
export { checkGroups, registerChecks, storeConformance } from "./conformance.ts";
export { type EtcdOptions, startEtcd } from "./etcd-server.ts";
export { type FaultProxy, type FaultProxyOptions, startFaultProxy } from "./fault-proxy.ts";
export type { Faults } from "./faults.ts";
export { freePort } from "./free-port.ts";
export { type RedisOptions, startRedis } from "./redis-server.ts";
export type { TestServer, TestServerOptions } from "./server-process.ts";
export { TimeoutError, until, within } from "./waiting.ts";
export { summary, WatchLog } from "./watch-log.ts";

export type { AddressState, PoolCounts } from "./address-table.ts";
export * from "./decision.ts";
export { mustBeFile } from "./durable-file.ts";
export * from "./engine.ts";
export { type EngineOptions, engineDefaults, type Granting } from "./engine-options.ts";
export * from "./flood-guard.ts";
export * from "./follow-leases-file.ts";
export {
  Journal,
  type JournalOptions,
  type JournalSource,
  type JournalStats,
  type OpenedJournal,
} from "./journal.ts";
export * from "./lease.ts";
export * from "./lease-file-formats.ts";
export * from "./leases-file.ts";
export * from "./load-leases.ts";
export type { MovedAddress, MovedHome } from "./moved-address.ts";
export type { OptionSet, OptionSettings } from "./option-settings.ts";
export { encodeOptions, parseOptionSettings, parseRawOption } from "./option-settings.ts";
export type { Decoded, DecodeProblem, DhcpPacket, PacketOptions } from "./packet.ts";
export { decodePacket, encodePacket, noFile, noSname, optionSize } from "./packet.ts";
export * from "./ports.ts";
export type { Answer, Reply } from "./reply.ts";
export { buildReply } from "./reply.ts";
export type { ReplyParameters } from "./reply-parameters.ts";
export * from "./request.ts";
export { parseReservations, type Reservation } from "./reservation.ts";
export * from "./server.ts";

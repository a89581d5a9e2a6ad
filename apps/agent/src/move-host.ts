import type { Announcement } from "@cocoon-net/host-linux";
import type { MovedPlaces } from "./move-announcements.ts";

/** What the host does about moved addresses. */
export interface MoveHost {
  /** Makes it so, and undoes what is not listed. Idempotent. */
  apply(places: MovedPlaces): Promise<void>;
  /** Brings NICs up that the cloud has attached. */
  bringUp(macs: readonly string[]): Promise<void>;
  announce(announcements: readonly Announcement[]): void;
}

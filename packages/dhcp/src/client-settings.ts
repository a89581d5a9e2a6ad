import type { Address } from "@cocoon-net/core";
import type { EngineOptions } from "./engine-options.ts";
import { withMoved } from "./moved-address.ts";
import { type ReplyParameters, replyParameters } from "./reply-parameters.ts";
import type { DhcpRequest } from "./request.ts";
import { type Reservation, Reservations } from "./reservation.ts";

type Who = Pick<DhcpRequest, "mac" | "clientID">;

/** What is set for each client: its reservation, and what it is told besides its address. */
export class ClientSettings {
  readonly #reservations: Reservations;
  readonly #parameters: ReplyParameters;
  /** Those of reservations with settings of their own. */
  readonly #ownParameters = new Map<Reservation, ReplyParameters>();

  constructor(options: Required<EngineOptions>) {
    const { moved } = options;
    const reservations = withMoved(options.reservations, moved);
    const homes = new Map(moved.map(({ address, home }) => [address, home]));
    this.#reservations = new Reservations(reservations);
    for (const reservation of reservations) {
      const home = reservation.address === undefined ? undefined : homes.get(reservation.address);
      if (reservation.options === undefined && home === undefined) continue;
      this.#ownParameters.set(reservation, replyParameters({ ...options, ...home }, reservation.options));
    }
    this.#parameters = replyParameters(options);
  }

  reservationOf({ mac, clientID }: Who): Reservation | undefined {
    return this.#reservations.of(mac, clientID);
  }

  reservationAt(address: Address): Reservation | undefined {
    return this.#reservations.at(address);
  }

  parametersFor(who: Who): ReplyParameters {
    const reservation = this.reservationOf(who);
    return (reservation && this.#ownParameters.get(reservation)) ?? this.#parameters;
  }
}

import { Channel, type ChannelCredentials, type ClientOptions } from "@grpc/grpc-js";

/**
 * One channel to each member for all of etcd's services, and so one connection; left alone, the client makes one for
 * each service.
 */
export class MemberChannels {
  readonly #channels = new Map<string, MemberChannel>();

  /** For a service of the member; it closes what it was given. */
  open(address: string, credentials: ChannelCredentials, options: ClientOptions): Channel {
    let channel = this.#channels.get(address);
    if (!channel?.inUse) {
      channel = new MemberChannel(address, credentials, options);
      this.#channels.set(address, channel);
    }
    return channel.share();
  }

  /** The client is about to throw its services of that member away: those that follow connect anew. */
  forget(address: string): void {
    this.#channels.delete(address);
  }
}

/** Closed once all that share it have closed it. */
class MemberChannel extends Channel {
  #sharers = 0;

  get inUse(): boolean {
    return this.#sharers > 0;
  }

  share(): this {
    this.#sharers += 1;
    return this;
  }

  override close(): void {
    this.#sharers -= 1;
    if (!this.inUse) super.close();
  }
}

import { type Cloud, DisposeStack, type OpenCloudOptions } from "@cocoon-net/core";
import { type DriverPlaces, openCloud } from "./drivers.ts";

/** The clouds of a process, each opened when it is first asked for. */
export class OpenClouds implements AsyncDisposable {
  readonly #drivers: DriverPlaces | undefined;
  readonly #options: OpenCloudOptions;
  readonly #parts = new DisposeStack();
  readonly #clouds = new Map<string, Promise<Cloud>>();

  constructor(drivers: DriverPlaces | undefined, options: OpenCloudOptions) {
    this.#drivers = drivers;
    this.#options = options;
  }

  open(platform: string): Promise<Cloud> {
    const known = this.#clouds.get(platform);
    if (known !== undefined) return known;
    const opening = openCloud(platform, this.#drivers, this.#options).then((cloud) => this.#parts.use(cloud));
    this.#clouds.set(platform, opening);
    // What could not be opened may be there the next time.
    opening.catch(() => this.#clouds.delete(platform));
    return opening;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts[Symbol.asyncDispose]();
  }
}

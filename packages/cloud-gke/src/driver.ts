import type { CloudCallOptions, CloudDriver, OpenCloudOptions } from "@cocoon-net/core";
import { InvalidError } from "@cocoon-net/core";
import { watchDeparture } from "./departure-watch.ts";
import { GkeCloud } from "./gke-cloud.ts";
import { Metadata } from "./metadata.ts";
import { metadataEndpoint } from "./settings.ts";
import { defaultTiming } from "./timing.ts";

const driver: CloudDriver = {
  platforms: ["gke"],
  open(platform: string, options: OpenCloudOptions = {}): GkeCloud {
    if (platform !== "gke") throw new InvalidError(`this driver knows gke, not "${platform}"`);
    const { env = process.env, budget, onCall } = options;
    return new GkeCloud({ env, budget, onCall });
  },
  async detect(options: CloudCallOptions = {}): Promise<boolean> {
    return await new Metadata(metadataEndpoint(process.env), defaultTiming).answers(options.signal);
  },
  watchDeparture,
};

export default driver;

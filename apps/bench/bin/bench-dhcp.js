#!/usr/bin/env node
import { main } from "../dist/dhcp/main.js";

await main(process.argv.slice(2));

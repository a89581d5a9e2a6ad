#!/usr/bin/env node
import { main } from "../dist/cloud/main.js";

await main(process.argv.slice(2));

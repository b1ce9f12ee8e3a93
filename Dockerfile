# One image for the server, workers and the command line: docker run tollgate serve | worker | doctor …
FROM node:22-alpine AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --no-audit --no-fund
COPY . .
RUN npm run build

FROM node:22-alpine AS packages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# Types, maps and documents of packages are of no use here.
RUN npm ci --omit=dev --no-audit --no-fund && find node_modules -type f \( -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' -o -name '*.map' -o -name '*.md' \) -delete

FROM node:22-alpine
ENV NODE_ENV=production
WORKDIR /app
COPY package.json ./
COPY --from=packages /app/node_modules node_modules
# The optional client of NATS: a worker process may be configured with one.
COPY --from=build /app/node_modules/@nats-io node_modules/@nats-io
COPY --from=build /app/dist/src dist/src
COPY --from=build /app/dist/workers dist/workers
USER node
EXPOSE 8787 9464
RUN ["node", "dist/src/cli/main.js", "--version"]
ENTRYPOINT ["node", "dist/src/cli/main.js"]
CMD ["worker"]

FROM node:22-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --no-audit --no-fund
COPY . .
RUN npm run build

FROM node:22-slim
ENV NODE_ENV=production
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --no-audit --no-fund
# The optional client of NATS: a worker process may be configured with one.
COPY --from=build /app/node_modules/@nats-io node_modules/@nats-io
COPY --from=build /app/dist/src dist/src
COPY --from=build /app/dist/workers dist/workers
USER node
CMD ["node", "dist/workers/agent.js"]

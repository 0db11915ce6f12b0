// The second half of scripts/shopify-schema: validates the documents in a folder against the schemas in it.
//
// Beside the rules of GraphQL it holds that no document uses anything deprecated, that every webhook topic exists and its
// subscription can be made with the variables that the daemon sends, and that the default scopes cover every document.

'use strict';

const fs = require('node:fs');
const path = require('node:path');
const zlib = require('node:zlib');
const { createRequire } = require('node:module');

const [folder, ...wanted] = process.argv.slice(2);
const graphql = createRequire(path.join(path.resolve(folder), 'package.json'))('graphql');
const { api_version: fallback, documents, scopes, topics } = JSON.parse(
    fs.readFileSync(path.join(folder, 'documents.json'), 'utf8'),
);
const data = path.join(folder, 'package', 'dist', 'data');

/** The introspection of one version of the Admin API. */
function introspection(version) {
    const file = path.join(data, `admin_${version}.json.gz`);
    if (!fs.existsSync(file)) {
        const names = fs.readdirSync(data).map((name) => name.slice('admin_'.length, -'.json.gz'.length));
        throw new Error(`the package has no schema of ${version}; it has ${names.join(', ')}`);
    }
    const answer = JSON.parse(zlib.gunzipSync(fs.readFileSync(file)).toString('utf8'));
    return answer.data ?? answer;
}

/**
 * What a document needs and no scope of the app grants: for each field, and for each type, one of the scopes that Shopify
 * names for it ("`read_a` access scope or `read_b` access scope.").
 */
function lacking(schema, required, ast) {
    const found = new Set();
    const info = new graphql.TypeInfo(schema);
    const note = (name) => {
        const named = (required.get(name) ?? '').match(/\b(read|write)_[a-z_]+/g) ?? [];
        if (named.length > 0 && !named.some((scope) => scopes.includes(scope))) {
            found.add(`${name} needs one of ${[...new Set(named)].join(', ')}`);
        }
    };
    graphql.visit(ast, graphql.visitWithTypeInfo(info, {
        Field() {
            const field = info.getFieldDef();
            if (!field) return;
            note(`${info.getParentType()?.name}.${field.name}`);
            note(graphql.getNamedType(field.type).name);
        },
    }));
    return [...found];
}

/** What Shopify says of the access that a type or a field needs. */
function requiredAccess(types) {
    const required = new Map();
    for (const type of types) {
        if (type.requiredAccess) required.set(type.name, type.requiredAccess);
        for (const field of type.fields ?? []) {
            if (field.requiredAccess) required.set(`${type.name}.${field.name}`, field.requiredAccess);
        }
    }
    return required;
}

/** The faults of a version. */
function check(version) {
    const answer = introspection(version);
    const schema = graphql.buildClientSchema(answer, { assumeValid: true });
    const required = requiredAccess(answer.__schema.types);
    const rules = [...graphql.specifiedRules, graphql.NoDeprecatedCustomRule];
    const faults = [];
    for (const { name, text } of documents) {
        const ast = graphql.parse(text);
        for (const error of graphql.validate(schema, ast, rules, { maxErrors: 1000 })) {
            faults.push(`${name}: ${error.message}`);
        }
        faults.push(...lacking(schema, required, ast).map((what) => `${name}: ${what}`));
    }
    const subscribe = documents.find(({ name }) => name === 'WebhookSubscribe');
    const [operation] = graphql.parse(subscribe.text).definitions;
    for (const topic of topics) {
        const name = topic.replaceAll('/', '_').toUpperCase();
        const input = { topic: name, webhookSubscription: { uri: 'https://pages.example.com/shopify/webhook', format: 'JSON' } };
        const { errors } = graphql.getVariableValues(schema, operation.variableDefinitions, input);
        faults.push(...(errors ?? []).map((error) => `${topic}: ${error.message}`));
    }
    return faults;
}

let failed = false;
for (const version of wanted.length > 0 ? wanted : [fallback]) {
    const faults = check(version);
    faults.forEach((fault) => console.error(`${version}: ${fault}`));
    console.log(`${version}: ${documents.length} documents, ${topics.length} topics, ${faults.length} faults`);
    failed ||= faults.length > 0;
}
process.exitCode = failed ? 1 : 0;

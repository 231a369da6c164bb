"""Pure rules: flows, inputs, identities, states, errors. No input or output, no clock."""

# What the stack makes at run time, executions and queues of slots, is nothing that Terraform knows of.
# At `destroy` the scaler ends it: after what starts work is gone (schedule, topic rules, event source
# mapping depend on this), and while everything that the connectors need to end well is still there.
resource "aws_lambda_invocation" "close" {
  function_name   = aws_lambda_function.this["scaler"].function_name
  lifecycle_scope = "CRUD" # at create and update the scaler does nothing

  input = jsonencode({
    action                      = "close"
    discovery_state_machine_arn = local.discovery_state_machine_arn
  })

  depends_on = [
    aws_iam_role_policy.function,
    aws_iam_role_policy.state_machine,
    aws_lambda_function.this,
    aws_lambda_function_event_invoke_config.connector,
    aws_lambda_function_recursion_config.connector,
    aws_route_table_association.this,
    aws_sfn_state_machine.this,
    aws_vpc_endpoint.gateway,
    aws_vpc_endpoint.interface,
    aws_vpc_security_group_egress_rule.functions_to_endpoints,
    aws_vpc_security_group_egress_rule.functions_to_gateways,
    aws_vpc_security_group_egress_rule.functions_to_redis,
    aws_vpc_security_group_ingress_rule.endpoints_from_functions,
    aws_vpc_security_group_ingress_rule.redis_from_functions,
  ]
}

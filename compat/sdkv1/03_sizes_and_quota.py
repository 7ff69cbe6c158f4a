"""supported_vmsizes, usages, quotas, update_quotas."""
import contextlib
import io

from azureml.core import Workspace
from azureml.core.compute import AmlCompute, ComputeTarget

ws = Workspace.from_config()
by_name = {s["name"].upper(): s for s in AmlCompute.supported_vmsizes(workspace=ws)}
assert len(by_name) > 500, len(by_name)
assert by_name["STANDARD_DS3_V2"]["vCPUs"] == 4 and by_name["STANDARD_DS3_V2"]["memoryGB"] == 14, by_name["STANDARD_DS3_V2"]
assert by_name["STANDARD_NC6S_V3"]["gpus"] == 1, by_name["STANDARD_NC6S_V3"]

warm = ComputeTarget.create(
    ws, "used", AmlCompute.provisioning_configuration(vm_size="STANDARD_DS3_V2", min_nodes=1, max_nodes=1)
)
warm.wait_for_completion(min_node_count=1, timeout_in_minutes=2)


def family(rows):
    rows = [r for r in rows if "DSv2" in r["name"]["value"] or "DSv2" in r["name"].get("localizedValue", "")]
    assert rows, "no row for the DSv2 family"
    return rows


usages = AmlCompute.list_usages(ws)
assert any(r["currentValue"] == 4 and r["unit"] == "Count" for r in family(usages)), family(usages)
assert len(AmlCompute.list_usages(ws, show_all=True)) >= len(usages)

assert family(AmlCompute.list_quotas(ws))[0]["limit"] > 0


def update(vm_family, limit):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        AmlCompute.update_quotas(ws, vm_family, limit=limit)
    return out.getvalue()


assert "Updated quota" in update("standardDSv2Family", 100)
assert any(r["limit"] == 100 for r in family(AmlCompute.list_quotas(ws))), family(AmlCompute.list_quotas(ws))
assert "Could not update" in update("standardDSv2Family", -5)
assert "Could not update" in update("noSuchFamily", 5)

"""`role`: write a Dynamics 365 solution file that holds one security role, with exactly the privileges needed.

The layout is that of exported solutions in public repositories; no import into a real organisation was tried
(docs/dynamics-365.md).
"""

from html import escape
from pathlib import Path
from typing import Annotated, Any
from zipfile import ZIP_DEFLATED, ZipFile

import typer

from sync_assets.checks.dynamics import role_privileges
from sync_assets.commands.terminal import Json, Parts, open_runtime, print_document
from sync_assets.dataverse.privileges import ORGANISATION
from sync_assets.errors import SyncAssetsError
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime

NAME = "sync_assets"
_ID = "{f4e2a399-6603-4f10-996f-5a28f9cca83c}"
"""The role's, the same in every file: a further import replaces its privileges instead of making another role."""
_SCHEMA = "http://www.w3.org/2001/XMLSchema-instance"
_LABEL = f'<LocalizedNames><LocalizedName description="{NAME}" languagecode="1033" /></LocalizedNames>'
_EMPTY = (
    "City County Country Fax FreightTermsCode ImportSequenceNumber Latitude Line1 Line2 Line3 Longitude Name "
    "PostalCode PostOfficeBox PrimaryContactName ShippingMethodCode StateOrProvince Telephone1 Telephone2 Telephone3 "
    "TimeZoneRuleVersionNumber UPSZone UTCOffset UTCConversionTimeZoneCode"
)
"""The elements of a publisher's address, in this order; exported solutions have two, empty ones."""
_ADDRESS = "<AddressTypeCode>1</AddressTypeCode>" + "".join(
    "<ShippingMethodCode>1</ShippingMethodCode>" if name == "ShippingMethodCode" else f'<{name} xsi:nil="true" />'
    for name in _EMPTY.split()
)
_ADDRESSES = "".join(f"<Address><AddressNumber>{n}</AddressNumber>{_ADDRESS}</Address>" for n in (1, 2))
_FILES = {
    "solution.xml": f"""\
<ImportExportXml version="9.2.0.0" SolutionPackageVersion="9.2" languagecode="1033" generatedBy="CrmLive"
    xmlns:xsi="{_SCHEMA}">
  <SolutionManifest>
    <UniqueName>{NAME}</UniqueName>{_LABEL}<Descriptions />
    <Version>1.0.0.0</Version>
    <Managed>0</Managed>
    <Publisher>
      <UniqueName>{NAME}</UniqueName>{_LABEL}<Descriptions />
      <EMailAddress xsi:nil="true" /><SupportingWebsiteUrl xsi:nil="true" />
      <CustomizationPrefix>sync</CustomizationPrefix>
      <CustomizationOptionValuePrefix>48171</CustomizationOptionValuePrefix>
      <Addresses>{_ADDRESSES}</Addresses>
    </Publisher>
    <RootComponents><RootComponent type="20" id="{_ID}" behavior="0" /></RootComponents>
    <MissingDependencies />
  </SolutionManifest>
</ImportExportXml>
""",
    "[Content_Types].xml": """\
<?xml version="1.0" encoding="utf-8"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">\
<Default Extension="xml" ContentType="application/octet-stream" /></Types>
""",
    "customizations.xml": f"""\
<ImportExportXml xmlns:xsi="{_SCHEMA}">
  <Entities></Entities>
  <Roles>
    <Role id="{_ID}" name="{NAME}">
      <IsCustomizable>1</IsCustomizable>
      <RolePrivileges>
PRIVILEGES
      </RolePrivileges>
    </Role>
  </Roles>
  <Workflows></Workflows>
  <FieldSecurityProfiles></FieldSecurityProfiles>
  <Templates />
  <EntityMaps />
  <EntityRelationships />
  <OrganizationSettings />
  <optionsets />
  <Languages><Language>1033</Language></Languages>
</ImportExportXml>
""",
}


def command(
    file: Annotated[Path, typer.Argument(help="The file to write or replace; its name ends in .zip.")] = Path(
        f"{NAME}_role.zip"
    ),
    as_json: Json = False,
) -> None:
    """Write a Dynamics 365 solution with the security role that the program needs. Changes neither system."""
    print_document(write_role(open_runtime(), file), as_json, show)


def write_role(runtime: Runtime, file: Path) -> dict[str, Any]:
    """Write the solution of the configured tables; return the document of `role --json`."""
    if file.suffix != ".zip":
        raise SyncAssetsError(f"{file} is no name of a solution file.", "Name a file that ends in .zip.")

    async def privileges() -> list[str]:
        async with runtime.using(any_ledger=True).d365() as client:  # nothing is read from the ledger or stored there
            return await role_privileges(runtime.config, client)

    names = interruptible.run(privileges())
    elements = "\n".join(f'        <RolePrivilege name="{escape(name)}" level="{ORGANISATION}" />' for name in names)
    try:
        with ZipFile(file, "w", ZIP_DEFLATED) as solution:
            for name, text in _FILES.items():
                solution.writestr(name, text.replace("PRIVILEGES", elements))
    except OSError as error:
        raise SyncAssetsError(f"{file} can't be written ({error.strerror}).", "Name another folder.") from None
    return {"file": str(file), "role": NAME, "depth": ORGANISATION, "privileges": names}


def show(document: dict[str, Any]) -> Parts:
    yield f"{document['file']}: a solution with the security role {NAME}, for the whole organisation:"
    for name in document["privileges"]:
        yield f"  {name}"
    yield "Import it in Power Apps (Solutions, Import solution), give the role to the application user in place of its"
    yield "others, and run `sync-assets doctor`."

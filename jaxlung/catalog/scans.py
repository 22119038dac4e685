"""The public sets of chest CT. Trachea and heart are no part of their lungs."""

from jaxlung.catalog.entry import NamedSet
from jaxlung.structures import LEFT_LUNG, LUNG, RIGHT_LUNG

SCANS = (
    NamedSet(
        name="lctsc",
        description="radiotherapy patients of three hospitals, USA and the Netherlands; contours "
        "by hand (n: scans)",
        n=60,
        convention=LUNG,
        terms="CC BY 3.0: any use, with credit to the data set and its paper; and TCIA's data "
        "usage policy",
        instructions="Download the collection (5 GB) by the NBIA Data Retriever from "
        "https://www.cancerimagingarchive.net/collection/lctsc/ and put it into lctsc/, so that "
        "lctsc/manifest-NUMBER/LCTSC/ (or lctsc/LCTSC/) holds LCTSC-Train-S1-001 and so on, each "
        "with a CT series and an RTSTRUCT below it.",
        homepage="https://www.cancerimagingarchive.net/collection/lctsc/",
        citation="""
J. Yang et al. Data from Lung CT Segmentation Challenge (LCTSC). The Cancer Imaging Archive, 2017.
doi:10.7937/K9/TCIA.2017.3R3FVZ08
J. Yang et al. Autosegmentation for thoracic radiation treatment planning: a grand challenge at AAPM
2017. Medical Physics 45(10), 2018, 4568-4581. doi:10.1002/mp.13141
K. Clark et al. The Cancer Imaging Archive (TCIA): maintaining and operating a public information
repository. Journal of Digital Imaging 26(6), 2013. doi:10.1007/s10278-013-9622-7
""".strip(),
        builder="lctsc",
        others=(RIGHT_LUNG, LEFT_LUNG),
        modality="ct",
    ),
    NamedSet(
        name="kaggle_lungs_ct",
        description="Finding and Measuring Lungs in CT Data, Kaggle: single slices and four scans; "
        "masks by hand (n: single slices)",
        n=267,
        convention=LUNG,
        terms="not known to jaxlung: read them on the page before you download",
        instructions="Download https://www.kaggle.com/datasets/kmader/finding-lungs-in-ct-data "
        "(log-in) and unpack it into kaggle_lungs_ct/, so that kaggle_lungs_ct/2d_images/ holds "
        "ID_0000_Z_0142.tif and so on, 2d_masks/ files of the same names, and 3d_images/ "
        "IMG_0002.nii.gz and MASK_0002.nii.gz and so on (3d_images/ may be left out).",
        homepage="https://www.kaggle.com/datasets/kmader/finding-lungs-in-ct-data",
        citation="K. S. Mader. Finding and Measuring Lungs in CT Data. Kaggle. "
        "https://www.kaggle.com/datasets/kmader/finding-lungs-in-ct-data",
        builder="kaggle_lungs_ct",
        modality="ct",
    ),
)
